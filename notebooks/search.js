// The search: every section of SEARCH that has all words, those in headings first.
{
  const [pages, sections] = SEARCH;
  const input = document.getElementById("query");
  const found = document.getElementById("found");
  const most = 40;

  // The query's words as patterns: each may go on, but has to start where a word starts.
  const patterns = (query) => (query.match(/[\p{L}\p{N}]+/gu) ?? []).map(
    (word) => new RegExp(`(?<![\\p{L}\\p{N}])${word}`, "giu"));

  // How well a section fits; 0 if a word is missing, or if only its page's title has them. Of
  // sections that fit as well, those that explain come before those of the reference.
  const score = ([page, , heading, text], words) => {
    let sum = 0, own = false;
    for (const word of words) {
      const times = [heading, pages[page][1], text].map((part) => part.match(word)?.length ?? 0);
      if (!times.some(Boolean)) return 0;
      own ||= times[0] + times[2] > 0;
      sum += 20 * Math.min(times[0], 1) + 5 * Math.min(times[1], 1) + Math.min(times[2], 4);
      if (heading.replace(word, "") === "") sum += 20;
    }
    return !own ? 0 : sum + (pages[page][2] === "Reference" ? 0 : 20);
  };

  const marked = (text, words) => {
    const parts = [], all = new RegExp(words.map((word) => word.source).join("|"), "giu");
    let at = 0;
    for (const hit of text.matchAll(all)) {
      const mark = document.createElement("mark");
      mark.textContent = hit[0];
      parts.push(text.slice(at, hit.index), mark);
      at = hit.index + hit[0].length;
    }
    return [...parts, text.slice(at)];
  };

  // The text around its first word, cut between words.
  const excerpt = (text, words) => {
    const first = Math.min(...words.map((word) => text.search(word)).filter((at) => at >= 0));
    const start = first > 90 && first < Infinity ? text.indexOf(" ", first - 80) + 1 : 0;
    const part = text.slice(start, start + 240);
    const whole = start + 240 >= text.length;
    return `${start ? "… " : ""}${whole ? part : `${part.slice(0, part.lastIndexOf(" "))} …`}`;
  };

  const show = () => {
    const words = patterns(input.value);
    const ranked = !words.length ? [] : sections
      .map((section) => [score(section, words), section]).filter(([fit]) => fit)
      .sort(([one], [other]) => other - one);
    found.replaceChildren(...ranked.slice(0, most).map(([, [page, anchor, heading, text]]) => {
      const [address, title, kind] = pages[page];
      const link = document.createElement("a"), place = document.createElement("small");
      link.href = anchor ? `${address}#${encodeURIComponent(anchor)}` : address;
      link.append(...marked(heading, words));
      place.textContent = heading === title ? kind
        : title.startsWith(kind) ? title : `${kind}: ${title}`;
      const item = document.createElement("li");
      item.append(link, place, ...marked(excerpt(text, words), words));
      return item;
    }));
    document.getElementById("count").textContent = !words.length ? ""
      : !ranked.length ? "Nothing found. Try fewer words, the start of a word, or another term: "
        + "the glossary has those of the course."
      : `${ranked.length} section${ranked.length > 1 ? "s" : ""}`
        + (ranked.length > most ? `, the first ${most} of them` : "");
    location.replace(`#${encodeURIComponent(input.value)}`);  // a link to what was searched
  };

  // The arrow keys lead through the results, Enter to the first.
  document.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const stops = [input, ...found.querySelectorAll("a")];
    const at = stops.indexOf(document.activeElement);
    if (!step || at < 0) return;
    event.preventDefault();
    stops[Math.min(Math.max(at + step, 0), stops.length - 1)].focus();
  });
  document.getElementById("search").addEventListener("submit", (event) => {
    event.preventDefault();
    found.querySelector("a")?.click();
  });
  input.addEventListener("input", show);
  input.value = decodeURIComponent(location.hash.slice(1));
  show();
}
