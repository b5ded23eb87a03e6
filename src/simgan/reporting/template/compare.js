"use strict";
// The large pair with its slider: its images are those of the examples on this page.
const viewer = document.querySelector("#viewer");
const examples = [...document.querySelectorAll(".example")];

if (viewer && examples.length) {
  const find = (selector) => viewer.querySelector(selector);
  const slider = find("input"), slide = find(".slide");
  const refined = Number(viewer.dataset.refined);
  let at = 0;

  const place = () => slide.style.setProperty("--cut", `${slider.value}%`);

  function show(number) {
    examples[at].removeAttribute("aria-current");
    at = (number + examples.length) % examples.length;
    const example = examples[at], images = [...example.querySelectorAll("img")];
    const put = (place, from, kind = "") => {
      const image = from.cloneNode();
      image.className = kind;
      place.append(image);
    };
    for (const image of viewer.querySelectorAll("img")) image.remove();
    put(slide, images[refined], "after");
    put(slide, images[0], "before");
    put(find(".change"), images[refined + 1]);
    put(find(".nearest"), images[images.length - 1]);
    find(".name").textContent = example.querySelector("small").textContent;
    example.setAttribute("aria-current", "true");
  }

  slider.addEventListener("input", place);
  find(".previous").addEventListener("click", () => show(at - 1));
  find(".next").addEventListener("click", () => show(at + 1));
  examples.forEach((example, number) => {
    example.addEventListener("click", () => {
      show(number);
      viewer.scrollIntoView({ block: "nearest" });
    });
  });
  viewer.hidden = false;
  place();
  show(0);
}

// On a phone, a long list shows its beginning only, until asked for more.
for (const list of document.querySelectorAll(".examples")) {
  if (list.children.length <= 10) continue;
  const more = document.createElement("button");
  more.type = "button";
  more.className = "more";
  more.textContent = `Show all ${list.children.length}`;
  more.addEventListener("click", () => {
    list.classList.remove("folded");
    more.remove();
  });
  list.classList.add("folded");
  list.after(more);
}
