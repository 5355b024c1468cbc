vim.filetype.add({ extension = { norm = "norm" } })
vim.lsp.config("metanorm", {
  cmd = { "metanorm", "lsp" },
  filetypes = { "norm" },
  root_markers = { "pyproject.toml", ".git" },
})
vim.lsp.enable("metanorm")
