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
