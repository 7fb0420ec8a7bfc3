// Sets formulas, ties an equation to the line that implements it, and lets code be copied. No request is made.
"use strict";

for (const formula of document.querySelectorAll(".formula")) {
  const text = formula.textContent;
  katex.render(text, formula, { displayMode: formula.tagName === "DIV", throwOnError: false, strict: "ignore" });
  const after = formula.nextSibling; // a short formula and the full stop behind it stay on one line
  const mark = text.length < 24 && after?.nodeType === Node.TEXT_NODE && after.data.match(/^[.,;:?!)]+/);
  if (formula.tagName === "SPAN" && mark) {
    const both = document.createElement("span");
    both.className = "kept-together";
    formula.replaceWith(both);
    both.append(formula, mark[0]);
    after.data = after.data.slice(mark[0].length);
  }
}

// "# eq. (2)" in a lesson's code and the equation (2) of its text point at each other
for (const comment of document.querySelectorAll(".highlight .c1")) {
  comment.innerHTML = comment.innerHTML.replace(/(eqs?\. |, | and )?\((\w+)\)/g, (whole, before = "", number) => {
    const equation = document.getElementById(`equation-${number}`);
    return equation ? `${before}<a class="equation" href="#equation-${number}">(${number})</a>` : whole;
  });
}
for (const link of document.querySelectorAll("a.equation")) {
  const equation = document.getElementById(link.hash.slice(1));
  const together = (on) => () => [link, equation].forEach((part) => part.classList.toggle("shown-together", on));
  for (const part of [link, equation]) {
    part.addEventListener("mouseenter", together(true));
    part.addEventListener("mouseleave", together(false));
  }
  equation.title = "implemented below: follow the outlined line";
}

for (const block of document.querySelectorAll("article .highlight")) {
  const button = document.createElement("button");
  button.className = "copy";
  button.type = "button";
  button.textContent = "copy";
  button.addEventListener("click", () => {
    const lines = block.querySelector("pre").innerText.split("\n");
    const session = lines.some((line) => line.startsWith(">>> "));
    const typed = session ? lines.filter((line) => /^(>>>|\.\.\.) ?/.test(line)) : lines;
    const text = typed.map((line) => (session ? line.slice(4) : line.replace(/^\$ /, ""))).join("\n");
    navigator.clipboard.writeText(text).then(
      () => { button.textContent = "copied"; },
      () => { button.textContent = "not allowed here"; },
    );
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
  block.append(button);
}

// "What is proven" and "Every mistake": entries by lesson, kind, margin and words; headings of none are hidden
for (const form of document.querySelectorAll("form.filters")) {
  const entries = [...document.querySelectorAll(".entry")].map((part) => [part, part.textContent.toLowerCase()]);
  const choose = () => {
    const { words, ...wanted } = Object.fromEntries(new FormData(form));
    const asked = words.toLowerCase().split(/\s+/);
    let count = 0;
    for (const [part, text] of entries) {
      const fits = Object.entries(wanted).every(([name, value]) => !value || part.dataset[name] === value);
      part.hidden = !(fits && asked.every((word) => text.includes(word)));
      count += !part.hidden;
    }
    for (const section of document.querySelectorAll("article section section")) {
      section.hidden = !section.querySelector(".entry:not([hidden])");
    }
    form.querySelector("output").textContent = `${count} of ${entries.length}`;
  };
  form.addEventListener("input", choose);
  form.addEventListener("submit", (event) => event.preventDefault());
  choose();
}

// with "?plan=weekend" in the address, next and previous are those of that plan, for the arrow keys too
const plan = new URLSearchParams(location.search).get("plan") || "";
const neighbours = plan && document.querySelector(`nav.orders p[data-plan="${CSS.escape(plan)}"]`);
if (neighbours) {
  for (const [rel, place] of [["prev", "previous"], ["next", "next"]]) {
    const step = neighbours.querySelector(`a[rel="${rel}"]`);
    const shown = document.querySelector(`.related-pages .${rel}-page`);
    const known = document.querySelector(`link[rel="${rel}"]`);
    if (known && !step) known.remove();
    if (known && step) known.href = step.href;
    if (shown && !step) shown.remove();
    if (shown && step) {
      shown.href = step.href;
      shown.querySelector(".title").textContent = step.textContent;
      shown.setAttribute("aria-label", `${place} in the plan: ${step.textContent}`);
    }
  }
  const leave = document.createElement("a");
  leave.href = location.pathname.split("/").pop();
  leave.textContent = "leave this order";
  const following = document.createElement("p");
  following.className = "following";
  following.append(`In the order of a plan. ${neighbours.querySelector("span").textContent}. `, leave);
  document.querySelector("article h1").after(following);
}

// a place that is folded away is opened when a link leads to it
function unfold() {
  const place = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let part = place; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
  if (place) place.scrollIntoView();
}
addEventListener("hashchange", unfold);
unfold();
