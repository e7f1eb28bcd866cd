"use strict";
// Enlarges photographs, switches layers, names instances. Without it, the page shows all the same.

const LAYERS = ["peaks", "pseudo", "predictions", "refined", "truth"]; // keys 1 to 5
const viewer = document.getElementById("viewer");
const drawing = viewer.querySelector(".drawing");
const label = Object.assign(document.createElement("p"), { className: "label", hidden: true });
let tour = []; // ids of the cards to go through
let place = 0;
let sought = ""; // selector of the instances that a link is about

function isShown(layer) {
  return !document.body.classList.contains(`no-${layer}`);
}

function switchLayer(layer, on) {
  document.body.classList.toggle(`no-${layer}`, !on);
  for (const box of document.querySelectorAll(`input[value="${layer}"]`)) box.checked = on;
}

function enlarge(opener) {
  tour = opener.dataset.tour?.split(" ") ?? cardsBeside(opener);
  sought = opener.dataset.sought ?? "";
  if (opener.dataset.only) for (const layer of LAYERS) switchLayer(layer, layer === opener.dataset.only);
  if (sought) switchLayer("truth", true);
  viewer.showModal();
  show(opener.dataset.tour ? 0 : tour.indexOf(opener.dataset.card));
}

function cardsBeside(opener) {
  const openers = [...opener.closest(".tour").querySelectorAll("[data-card]")];
  const visible = openers.filter((one) => !one.closest("[hidden]"));
  return [...new Set(visible.map((one) => one.dataset.card))];
}

function show(number) {
  place = (number + tour.length) % tour.length;
  const card = document.getElementById(tour[place]);
  const picture = card.querySelector("svg").cloneNode(true);
  const { width, height } = picture.viewBox.baseVal;
  drawing.style.setProperty("--ratio", width / height);
  drawing.replaceChildren(picture, label);
  label.hidden = true;
  viewer.querySelector("#viewer-title").replaceChildren(...card.querySelector("figcaption").cloneNode(true).childNodes);
  viewer.querySelector(".place").textContent = `${place + 1} of ${tour.length}`;
  for (const shape of picture.querySelectorAll("path, circle")) makeNamed(shape);
  for (const shape of sought ? picture.querySelectorAll(`.truth ${sought}`) : []) shape.classList.add("sought");
  for (const box of viewer.querySelectorAll("input")) box.disabled = !picture.querySelector(`.${box.value}`);
}

function makeNamed(shape) {
  const title = shape.querySelector("title");
  shape.setAttribute("role", "img");
  shape.setAttribute("tabindex", "0");
  shape.setAttribute("aria-label", title.textContent);
  title.remove(); // the label shows it
}

function nameInstance(shape) {
  label.hidden = !shape;
  if (!shape) return;
  const box = shape.getBBox();
  const { width, height } = shape.ownerSVGElement.viewBox.baseVal;
  label.textContent = shape.getAttribute("aria-label");
  label.style.setProperty("--class", getComputedStyle(shape).getPropertyValue("--class"));
  label.style.setProperty("--x", `${(100 * box.x) / width}%`);
  label.style.setProperty("--y", `${(100 * box.y) / height}%`);
}

function chooseClass(button) {
  const section = button.closest(".tour");
  for (const other of section.querySelectorAll(".filter button")) {
    other.setAttribute("aria-pressed", other === button);
  }
  for (const card of section.querySelectorAll(".card")) {
    card.hidden = button.value !== "" && !card.classList.contains(button.value);
  }
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-card], [data-tour]");
  const choice = event.target.closest(".filter button");
  if (opener) {
    event.preventDefault();
    enlarge(opener);
  } else if (choice) {
    chooseClass(choice);
  }
});

document.addEventListener("change", (event) => switchLayer(event.target.value, event.target.checked));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const layer = LAYERS[event.key - 1];
  if (layer) switchLayer(layer, !isShown(layer));
  if (viewer.open && event.key === "ArrowRight") show(place + 1);
  if (viewer.open && event.key === "ArrowLeft") show(place - 1);
});

viewer.querySelector(".close").addEventListener("click", () => viewer.close());
viewer.querySelector(".previous").addEventListener("click", () => show(place - 1));
viewer.querySelector(".next").addEventListener("click", () => show(place + 1));
for (const what of ["pointerover", "focusin"]) {
  drawing.addEventListener(what, (event) => nameInstance(event.target.closest("[aria-label]")));
}
drawing.addEventListener("pointerleave", () => nameInstance(null));
