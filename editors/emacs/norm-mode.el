;;; norm-mode.el --- Specs of normalization layers  -*- lexical-binding: t; -*-
;; Written by `make docs` from metanorm/syntax/words.py.

(defvar norm-mode-syntax-table
  (let ((table (make-syntax-table)))
    (modify-syntax-entry ?# "<" table)
    (modify-syntax-entry ?\n ">" table)
    (modify-syntax-entry ?_ "w" table)
    table))

(defvar norm-mode-font-lock
  `(("\\_<norm\\_>[ \t\n]+\\(\\sw+\\)" 1 font-lock-type-face)
    (,(regexp-opt '("affine" "axis" "backward" "buffer" "entry" "example" "gradient" "input" "let" "mix" "norm" "output" "param" "reduce" "repeat" "scale" "shift" "stat" "track" "update" "use") 'words)
     . font-lock-keyword-face)
    (,(regexp-opt '("as" "by" "first" "for" "from" "gives" "if" "in" "init" "into" "like" "none" "of" "off" "over" "per" "weight" "where" "with" "within") 'words)
     . font-lock-keyword-face)
    (,(regexp-opt '("bool" "edges" "float" "index" "int" "mask" "matrix" "offsets") 'words)
     . font-lock-type-face)
    (,(regexp-opt '("None" "false" "true") 'words)
     . font-lock-constant-face)
    (,(regexp-opt '("abs" "affine" "bernoulli" "blocks" "cast" "causal" "cells" "chunks" "clamp" "concat" "cos" "count" "erf" "exp" "gelu" "interleave" "l1" "l2" "log" "max" "mean" "median" "min" "mode" "moments" "normal" "normalize" "permutation" "position" "quantile" "relu" "rms" "round" "rsqrt" "scan" "sigmoid" "sign" "silu" "sin" "size" "softmax" "softplus" "sparsestmax" "sqrt" "std" "stop" "sum" "tanh" "uniform" "var" "where" "window") 'words)
     . font-lock-builtin-face)))

;;;###autoload
(define-derived-mode norm-mode prog-mode "Norm"
  "Specs of normalization layers, for metanorm."
  (setq-local comment-start "# ")
  (setq-local comment-start-skip "#+[ \t]*")
  (setq-local tab-width 2)
  (setq font-lock-defaults '(norm-mode-font-lock nil nil)))

;;;###autoload
(add-to-list 'auto-mode-alist '("\\.norm\\'" . norm-mode))

(with-eval-after-load 'eglot
  (add-to-list 'eglot-server-programs '(norm-mode . ("metanorm" "lsp"))))

(provide 'norm-mode)
;;; norm-mode.el ends here
