// Two repairs for pages that hold both mathematics and widgets.

// Font Awesome replaces the widgets' icons (the Play button) by SVG; nested, the icon element survives.
window.FontAwesomeConfig = { autoReplaceSvg: "nest" };

// ipywidgets still calls MathJax 2's Hub.Queue (jupyter-widgets/ipywidgets#3829). This listener is registered before
// the widget manager's, so the stand-in is there when the first widget is drawn.
window.addEventListener("load", () => {
  const typeset = (command) => {
    const element = command[2];
    const mathjax = window.MathJax;
    if (!element || !mathjax.startup) return;
    mathjax.startup.promise.then(() => mathjax.typesetPromise([element]));
  };
  if (window.MathJax && !window.MathJax.Hub) {
    window.MathJax.Hub = { Queue: (...commands) => commands.forEach(typeset) };
  }
});

// A wide table or output scrolls inside its own box; the keyboard must reach that box.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("article table")) {
    const output = table.closest(".cell_output .output");
    if (output) {
      output.classList.add("book-scroll");
      continue;
    }
    const box = document.createElement("div");
    box.className = "book-scroll";
    table.replaceWith(box);
    box.append(table);
  }
  for (const box of document.querySelectorAll(".book-scroll, div.math")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
});

// The glossary's words explain themselves: on pointing at one, or on reaching it with the Tab key. Escape closes.
document.addEventListener("DOMContentLoaded", () => {
  const definitions = document.getElementById("definitions");
  if (!definitions) return;
  const box = document.createElement("div");
  box.className = "definition-box";
  box.id = "definition-box";
  box.setAttribute("role", "tooltip");
  box.hidden = true;
  document.body.append(box);
  let current = null;
  let timer = 0;

  const place = () => {
    const word = current.getClientRects()[0];
    const width = document.documentElement.clientWidth;
    box.style.left = `${Math.max(8, Math.min(word.left, width - box.offsetWidth - 8)) + window.scrollX}px`;
    const below = word.bottom + box.offsetHeight + 12 < window.innerHeight || word.top < box.offsetHeight + 12;
    box.style.top = `${(below ? word.bottom + 6 : word.top - box.offsetHeight - 6) + window.scrollY}px`;
  };
  const hide = () => {
    clearTimeout(timer);
    box.hidden = true;
    if (current) current.removeAttribute("aria-describedby");
    current = null;
  };
  const show = (link) => {
    clearTimeout(timer);
    if (link === current) return;
    const anchor = decodeURIComponent(link.hash.slice(1));
    const definition = definitions.content.querySelector(`[data-term="${CSS.escape(anchor)}"]`);
    if (!definition) return;
    hide();
    current = link;
    box.replaceChildren(...definition.cloneNode(true).childNodes);
    box.hidden = false;
    link.setAttribute("aria-describedby", box.id);
    place();
    const mathjax = window.MathJax;
    if (mathjax && mathjax.startup && box.querySelector(".math")) {
      mathjax.startup.promise.then(() => mathjax.typesetPromise([box])).then(() => current === link && place());
    }
  };
  // A moment's grace, so that the pointer can move into the box and read on.
  const leave = () => {
    clearTimeout(timer);
    timer = setTimeout(hide, 200);
  };

  for (const word of document.querySelectorAll("article a > .std-term")) {
    const link = word.parentElement;
    link.classList.add("defined-term");
    link.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && show(link));
    link.addEventListener("pointerleave", leave);
    link.addEventListener("focus", () => show(link));
    link.addEventListener("blur", leave);
  }
  box.addEventListener("pointerenter", () => clearTimeout(timer));
  box.addEventListener("pointerleave", leave);
  document.addEventListener("keydown", (event) => event.key === "Escape" && hide());
});
