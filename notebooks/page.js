// What a page can do beside its text. Without this script it reads as well, unfolded.
{
  const all = (selector) => [...document.querySelectorAll(selector)];
  const chosen = document.documentElement.dataset;

  // Colours: those of the system, until the button chooses.
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => chosen.theme ? chosen.theme === "dark" : system.matches;

  // Code: what the style has hidden until now, each cell's own fold hides from here on.
  const fold = () => {
    for (const cell of all(".code")) cell.open = !chosen.code;
    chosen.settled = "";
  };
  if (chosen.code) fold();

  const press = () => {
    for (const one of all(".tools button"))
      one.ariaPressed = one.matches(".dark") ? dark() : !!chosen.code;
  };
  system.onchange = press;
  press();

  const copy = async (button) => {
    const code = button.parentNode.querySelector("pre");
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {  // some browsers give a page from the disk no clipboard
      getSelection().selectAllChildren(code);
      document.execCommand("copy");
      getSelection().empty();
    }
    const say = (name, heard) => {
      button.textContent = name;
      all(".unseen")[0].textContent = heard;
    };
    say("Copied", "Code copied");
    setTimeout(say, 2000, "Copy", "");
  };

  document.onclick = ({ target }) => {
    if (target.matches(".copy")) copy(target);
    if (target.matches(".dark")) keep("theme", dark() ? "light" : "dark");
    if (target.matches(".fold")) {
      keep("code", chosen.code ? "" : "folded");
      fold();
    }
    press();
  };

  // Contents: the current section is that of the last heading in or above the top quarter.
  const headings = all("main :is(h2, h3)[id]");
  const follow = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) target.above = isIntersecting;
    const current = headings.findLast((heading) => heading.above);
    for (const link of all(".contents a")) {
      const here = link.getAttribute("href") === `#${current?.id}`;
      link.ariaCurrent = here ? "location" : null;
      const list = here && link.closest(".beside:not(:has(:focus-visible))");
      if (list) list.scrollTop = link.offsetTop - list.clientHeight / 2;
    }
  }, { rootMargin: "1000000px 0px -75%" });
  headings.forEach((heading) => follow.observe(heading));

  // Boxes that scroll take the focus, so that the arrow keys reach them, and say what they are.
  const look = (box) => {
    const more = box.scrollWidth - box.clientWidth;
    const { what } = box.dataset;  // a paragraph has none: it stays one
    const scrolls = more > 1 || (what && box.scrollHeight > box.clientHeight + 1);
    box.classList.toggle("more", box.scrollLeft < more - 1);
    box.tabIndex = scrolls ? 0 : -1;
    box.role = scrolls && what ? "group" : null;
    box.ariaLabel = box.role && what;
  };
  const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => look(target)));
  for (const box of all("[data-what], main :is(p, ul, ol):has(math)")) {
    sizes.observe(box);
    box.onscroll = () => look(box);
  }
}
