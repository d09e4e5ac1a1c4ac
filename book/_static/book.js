// Repairs of what the theme and the widgets leave open, and the score of the quizzes.

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

// The theme's button to print; its own handler, an attribute, is taken away by policy.py.
document.addEventListener("DOMContentLoaded", () => {
  for (const button of document.querySelectorAll(".btn-download-pdf-button")) {
    button.addEventListener("click", () => window.print());
  }
});

// The search shows the text at an anchor. Those of the index are empty, and Sphinx stumbles over them: show the page's own text.
document.addEventListener("DOMContentLoaded", () => {
  if (typeof Search === "undefined") return;
  const textAt = Search.htmlToText;
  Search.htmlToText = (page, anchor) => textAt(page, anchor).trim() || textAt(page);
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

// Names that a screen reader speaks must contain the words that others see ("Show code cell source", "Search").
document.addEventListener("DOMContentLoaded", () => {
  for (const element of document.querySelectorAll("summary[aria-label], .search-button__button")) {
    element.removeAttribute("aria-label");
  }
  // Font Awesome may have turned the titles of these icons into elements already, or may do so later.
  for (const button of document.querySelectorAll(".theme-switch-button")) {
    const untitle = () => {
      for (const icon of button.querySelectorAll("i[title]")) icon.removeAttribute("title");
      for (const icon of button.querySelectorAll("svg:not([aria-hidden])")) {
        icon.querySelector("title")?.remove();
        icon.removeAttribute("aria-labelledby");
        icon.setAttribute("aria-hidden", "true");
      }
    };
    untitle();
    new MutationObserver(untitle).observe(button, { subtree: true, childList: true });
  }
  // Each entry of the bibliography has a role that is no longer in use, inside a list that wants items.
  for (const entry of document.querySelectorAll("[role=list] > .citation")) entry.setAttribute("role", "listitem");
});

// Sliders and pictures of the explorers come without a name: take it from the words beside them.
const put = (element, name, value) => {
  if (element && element.getAttribute(name) !== value) element.setAttribute(name, value);
};

function nameExplorer(output) {
  const settings = [];
  for (const slider of output.querySelectorAll(".widget-hslider")) {
    const label = slider.querySelector(".widget-label")?.textContent.trim() ?? "";
    const readout = slider.querySelector(".widget-readout");
    const value = readout?.textContent.trim() ?? "";
    settings.push(`${label}: ${value}`);
    put(slider.querySelector("[role=slider]"), "aria-label", label);
    put(slider.querySelector("[role=slider]"), "aria-valuetext", value);
    put(readout, "role", "textbox");
    put(readout, "aria-label", label);
  }
  for (const image of output.querySelectorAll("img.widget-image, .widget-image img")) {
    put(image, "alt", `The picture for ${settings.join(", ")}`);
  }
}

document.addEventListener("DOMContentLoaded", () => {
  for (const script of document.querySelectorAll("script[type='application/vnd.jupyter.widget-view+json']")) {
    const output = script.closest(".cell_output");
    if (!output) continue;
    const watched = { subtree: true, childList: true, characterData: true, attributeFilter: ["src", "aria-valuetext"] };
    new MutationObserver(() => nameExplorer(output)).observe(output, watched);
  }
});

// A quiz counts the questions whose first chosen answer was right. It forgets them with the page.
document.addEventListener("DOMContentLoaded", () => {
  const questions = [...document.querySelectorAll(".quiz-question")];
  if (questions.length === 0) return;
  const score = document.createElement("p");
  score.className = "quiz-score";
  score.setAttribute("role", "status");
  questions.at(-1).after(score);
  const first = new Map();
  for (const question of questions) {
    for (const answer of question.querySelectorAll(".quiz-answer")) {
      answer.addEventListener("toggle", () => {
        if (!answer.open || first.has(question)) return;
        first.set(question, answer.classList.contains("quiz-right"));
        const right = [...first.values()].filter(Boolean).length;
        score.textContent = `${first.size} of ${questions.length} questions answered, ${right} right at the first choice.`;
      });
    }
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
