// What the tabs show. All of it is text or an image: no answer of the compiler is taken as HTML.
import { parser as cpp } from "@lezer/cpp";
import { classHighlighter, highlightCode } from "@lezer/highlight";
import { parser as python } from "@lezer/python";
import katex from "katex";

const element = (tag, properties, ...children) => {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
};

function code(parser) {
  return (text) => {
    const pre = element("pre", {});
    const put = (part, classes) =>
      pre.append(classes ? element("span", { className: classes, textContent: part }) : part);
    highlightCode(text, parser.parse(text), classHighlighter, put, () => pre.append("\n"));
    return [pre];
  };
}

const plain = (text) => [element("pre", { textContent: text })];

const headed = (norms, body) =>
  norms.flatMap((norm) => [
    ...(norms.length > 1 ? [element("h2", { textContent: norm.norm })] : []),
    body(norm),
  ]);

function equations(norms) {
  return headed(norms, ({ latex }) => {
    const block = element("div", { className: "equations" });
    katex.render(latex, block, { displayMode: true, throwOnError: false, trust: false, maxSize: 50 });
    return block;
  });
}

// An image runs no scripts and keeps its styles to itself. It has the name of the norm as its title.
function pools(norms) {
  return norms.map(({ norm, svg, reason }) => {
    if (!svg) return element("p", { textContent: `There is no small example of ${norm} to draw: ${reason}` });
    const src = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
    const image = element("img", { src, alt: `What ${norm} pools` });
    image.onload = () => URL.revokeObjectURL(src);
    return image;
  });
}

const orNote = (note, show) => (answer) =>
  answer === null ? [element("p", { textContent: note })] : show(answer);

// Of each tab: how it shows an answer, and the ending of the file that may be saved.
export const TABS = {
  module: { show: code(python), ending: ".py" },
  equations: { show: equations },
  pools: { show: pools },
  explanation: { show: plain, ending: ".txt" },
  kernels: {
    show: orNote("There are no kernels for this spec: it runs on operations of torch.", code(cpp)),
    ending: ".c",
  },
};
