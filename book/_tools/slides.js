// Start the slides when their formulas have their final size, and shrink the text of a slide that is too full.
const SIZE = { width: 1280, height: 720 };
const SMALLEST = 0.55;

function fit(slide) {
  const full = () => slide.scrollHeight > SIZE.height || slide.scrollWidth > SIZE.width;
  for (let scale = 1; full() && scale > SMALLEST; scale -= 0.05) slide.style.fontSize = `${scale}em`;
}

window.addEventListener("load", async () => {
  await window.MathJax.startup.promise;
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  await Reveal.initialize({
    ...SIZE,
    margin: 0.04,
    center: false,
    hash: true,
    slideNumber: "c/t",
    transition: still ? "none" : "slide",
    viewDistance: 1000, // every slide keeps its layout, so that all can be measured and searched
  });
  const slides = document.querySelectorAll(".slides section[class]:not(.stack)");
  for (const slide of slides) {
    const hidden = slide.style.display;
    slide.style.display = "block";
    fit(slide);
    slide.style.display = hidden;
  }
  Reveal.layout();
  document.body.dataset.ready = "yes";
});
