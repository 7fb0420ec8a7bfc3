// Search by section: what has most of the words, the rare ones first; a heading counts more than a text, a text more
// than code, words side by side more than apart, and what explains more than plans, logs and lists of changes.
"use strict";

const COMMON = new Set("a an and are as at be but by do does for how i if in is it of on or the this to two what when where which why with".split(" "));
const LIMIT = 40;
const CODE = 0.2;
const ASIDE = /^(days|planning|benchmarks|CHANGELOG)/;

function stems(query) {
  const words = query.toLowerCase().replace(/['’]s\b/g, "").match(/[\p{L}\p{N}_-]+/gu) || [];
  const kept = words.filter((word) => !COMMON.has(word));
  return (kept.length ? kept : words).map((word) => (word.length > 3 ? word.replace(/([^s])s$/, "$1") : word));
}

function count(text, stem) {
  let found = 0;
  for (let at = text.indexOf(stem); at >= 0; at = text.indexOf(stem, at + stem.length)) {
    if (at === 0 || !/[\p{L}\p{N}]/u.test(text[at - 1])) found += 1;
  }
  return found;
}

function pairs(query) {
  const words = query.toLowerCase().match(/[\p{L}\p{N}_-]+/gu) || [];
  const both = words.slice(1).map((word, i) => [words[i], word]);
  return both.filter((pair) => !pair.every((word) => COMMON.has(word))).map((pair) => pair.join(" "));
}

function search(query, texts) {
  const asked = stems(query);
  const together = pairs(query);
  const lower = texts.map((parts) => parts.slice(2).map((part) => part.toLowerCase()));
  const scores = texts.map(() => 0);
  const matched = texts.map(() => 0);
  for (const stem of asked) {
    const counts = lower.map(([page, own, text, code]) => [
      count(page, stem), count(own, stem), count(text, stem) + CODE * count(code, stem),
    ]);
    const rare = (part) => Math.log(1 + texts.length / (1 + counts.filter((found) => found[part]).length));
    const weights = [0.3 * rare(0), 1.2 * rare(1), rare(2)];
    counts.forEach(([page, own, text], i) => {
      if (page + own + text === 0) return;
      const often = (weights[2] * text) / (text + 1.5 + lower[i][2].length / 2000);
      const single = texts[i][1].includes("."); // a claim or a mistake, which comes after what explains it
      scores[i] += single ? often / 2 : often + weights[0] * Math.min(page, 1) + weights[1] * Math.min(own, 1);
      matched[i] += 1;
    });
  }
  const order = texts.map((_, i) => i).filter((i) => scores[i] > 0);
  const beside = (i) => together.filter((pair) => lower[i][1].includes(pair) || lower[i][2].includes(pair)).length;
  const rank = (i) => scores[i] * (matched[i] / asked.length) * (ASIDE.test(texts[i][0]) ? 0.3 : 1)
    * (1 + beside(i) / (1 + together.length));
  const seen = {}; // of one page a few sections: the others may be what is looked for
  const some = (i) => (seen[texts[i][0]] = (seen[texts[i][0]] || 0) + 1) <= 3;
  return order.sort((i, j) => rank(j) - rank(i)).filter(some).slice(0, LIMIT).map((i) => texts[i]);
}

function excerpt(text, asked) {
  const lower = text.toLowerCase();
  const places = asked.map((stem) => lower.indexOf(stem)).filter((at) => at >= 0);
  const start = Math.max(0, (places.length ? Math.min(...places) : 0) - 60);
  const shown = text.slice(start, start + 220);
  return `${start ? `… ${shown.replace(/^\S*\s/, "")}` : shown}${text.length > start + 220 ? " …" : ""}`;
}

if (typeof document !== "undefined") {
  const form = document.getElementById("search");
  const show = (query) => {
    const asked = stems(query);
    const found = query.trim() ? search(query, TEXTS) : [];
    const list = document.getElementById("found");
    list.replaceChildren(...found.map(([page, place, title, own, text, code]) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = `${page}#${place}`;
      link.textContent = own === title ? title : `${title} › ${own}`;
      const shown = document.createElement("p");
      shown.textContent = excerpt(`${text} ${code}`, asked);
      item.append(link, shown);
      return item;
    }));
    const many = found.length === LIMIT ? `the best ${LIMIT}` : `${found.length} found`;
    form.querySelector("output").textContent = query.trim() ? many : "";
  };
  form.q.value = new URLSearchParams(location.search).get("q") || "";
  form.addEventListener("input", () => show(form.q.value));
  form.addEventListener("submit", (event) => event.preventDefault());
  show(form.q.value);
}
