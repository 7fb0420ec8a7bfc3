// Search by section: what has most of the words, the rare ones first; a heading counts more than a text, a text more
// than code, words side by side more than apart, and what explains more than plans, logs and lists of changes.
"use strict";

const COMMON = new Set("a an and are as at be but by can do does for how i if in is it me mean means my of on or the this to two we what when where which why with work works you".split(" "));
const LIMIT = 40;
const CODE = 0.2;
const PART = 0.3; // what the beginning of a longer word counts; that of a long one, since "mac" is no machine
const ASIDE = /^(days|planning|benchmarks|CHANGELOG|chapters\/references)/;

// in small letters, hyphens and underscores as spaces, one spelling of "-ise"; as long as before
function plain(text) {
  return text.toLowerCase().replace(/[-_]/g, " ").replace(/iz(?=[aei])/g, "is");
}

function wordsOf(query) {
  return plain(query).replace(/['’]s\b/g, "").match(/[\p{L}\p{N}]+/gu) || [];
}

function stems(query) {
  const words = wordsOf(query);
  const kept = words.filter((word) => !COMMON.has(word));
  const short = (word) => word.replace(/(.{3,}[^s])s$|(.{5,})(?:ing|ed|e)$/, "$1$2");
  return [...new Set((kept.length ? kept : words).map(short))];
}

function count(text, stem) {
  let found = 0;
  for (let at = text.indexOf(stem); at >= 0; at = text.indexOf(stem, at + stem.length)) {
    if (at > 0 && /[\p{L}\p{N}]/u.test(text[at - 1])) continue;
    const rest = text.slice(at + stem.length, at + stem.length + 4);
    if (/^(?:s|e|es|ed|ing)?(?![\p{L}\p{N}])/u.test(rest)) found += 1;
    else if (stem.length > 3) found += PART;
  }
  return found;
}

function pairs(query) {
  const words = wordsOf(query);
  const both = words.slice(1).map((word, i) => [words[i], word]);
  return both.filter((pair) => !pair.every((word) => COMMON.has(word))).map((pair) => pair.join(" "));
}

// a page's title and what the front page's table says is found there, one by one: who asks for one means that page
function names(title, subjects) {
  const parts = `${title.replace(/^[A-E]\d+ · /, "")};${subjects}`.split(/[:;,()]| and /);
  return parts.map((part) => wordsOf(part).join(" ")).filter(Boolean);
}

let read; // the texts as they are searched, and each page's names
function prepared(texts) {
  const own = ([, , title, heading, , , subjects]) => (heading === title ? names(title, subjects) : []);
  read ||= { lower: texts.map((parts) => parts.slice(2, 6).map(plain)), known: texts.map(own) };
  return read;
}

function search(query, texts) {
  const asked = stems(query);
  const together = pairs(query);
  const whole = wordsOf(query).join(" ");
  const { lower, known } = prepared(texts);
  const scores = texts.map(() => 0);
  const matched = texts.map(() => 0);
  for (const stem of asked) {
    const counts = lower.map(([page, own, text, code], i) => [
      count(page, stem),
      count(own, stem) + Math.max(0, ...known[i].map((name) => count(name, stem))),
      count(text, stem) + CODE * count(code, stem),
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
  const says = (i, words) => lower[i][1].includes(words) || lower[i][2].includes(words);
  const beside = (i) => together.filter((pair) => says(i, pair)).length / (1 + together.length);
  const page = (i) => (known[i].includes(whole) ? 3 : known[i].length ? 1.2 : 1);
  const rank = (i) => scores[i] * (matched[i] / asked.length) * (ASIDE.test(texts[i][0]) ? 0.3 : page(i))
    * (1 + beside(i)) * (says(i, whole) ? 1 + 2 * together.length : 1);
  const ranks = new Map(order.map((i) => [i, rank(i)]));
  const seen = {}; // of one page a few sections: the others may be what is looked for
  const some = (i) => (seen[texts[i][0]] = (seen[texts[i][0]] || 0) + 1) <= 3;
  return order.sort((i, j) => ranks.get(j) - ranks.get(i)).filter(some).slice(0, LIMIT).map((i) => texts[i]);
}

function excerpt(text, asked) {
  const lower = plain(text);
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
