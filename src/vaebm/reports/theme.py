"""How a report looks: its style sheet, light and dark, and the few lines of script behind the chain's slider.

The colours of the curves are the variables `--tone-…` here, so that figures follow the page. Without the script the
chain plays as an animation of the style sheet, and stands still for readers who ask for less motion.
"""

STYLE = """
:root { color-scheme: light dark;
  --paper: #faf9f6; --card: #ffffff; --ink: #22252b; --ink-soft: #626874; --rule: #e3e1da; --wash: #f1efe9;
  --tone-vae: #b9570f; --tone-vaebm: #0a7670; --tone-real: #6b7280; --tone-other: #6a49b0;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", sans-serif;
  --serif: Charter, "Bitstream Charter", "Iowan Old Style", "Source Serif 4", Georgia, "Liberation Serif", serif;
  --mono: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #131519; --card: #1a1d22; --ink: #e9e6df; --ink-soft: #9ba1ac; --rule: #2d3138; --wash: #20242a;
  --tone-vae: #f09a52; --tone-vaebm: #52c7bd; --tone-real: #98a1b0; --tone-other: #b59df2; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 1.0625rem/1.6 var(--serif); }
main, header, footer { max-width: 68rem; margin: 0 auto; padding: 0 clamp(1rem, 4vw, 2.5rem); }
header { padding-top: clamp(1.75rem, 6vw, 4rem); }
h1, h2, h3, nav, table, figcaption, .tile, .eyebrow, summary, .controls, dt, footer, .note {
  font-family: var(--sans); }
.eyebrow { margin: 0 0 .75rem; font-size: .9rem; font-weight: 600; letter-spacing: .02em; color: var(--tone-vaebm); }
h1 { margin: 0 0 1.25rem; max-width: 40ch; font-size: clamp(1.4rem, 1.1rem + 1.6vw, 2.1rem); line-height: 1.25;
  letter-spacing: -.015em; font-weight: 680; text-wrap: balance; }
h2 { margin: 0 0 .6rem; font-size: 1.35rem; line-height: 1.3; letter-spacing: -.01em; }
h3 { margin: 1.75rem 0 .5rem; font-size: 1rem; }
p, ul, dl { max-width: 68ch; margin: 0 0 1rem; }
section { margin: 0; padding: 2.25rem 0 1.25rem; border-top: 1px solid var(--rule); }
section:first-of-type { border-top: 0; padding-top: 1.5rem; }
.lede { font-size: 1.15rem; color: var(--ink-soft); }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin-top: 1.5rem; font-size: .875rem; }
a { color: inherit; text-decoration-color: var(--rule); text-underline-offset: .2em; }
a:hover { text-decoration-color: currentColor; }
a:focus-visible, .scroll:focus-visible, summary:focus-visible { outline: 2px solid var(--tone-vaebm);
  outline-offset: 3px; }
figure { margin: 0 0 1.25rem; min-width: 0; }
figure img { display: block; width: 100%; height: auto; border-radius: 4px; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { margin-top: .5rem; font-size: .875rem; line-height: 1.45; color: var(--ink-soft); }
figcaption b { color: var(--ink); }
.pixels { image-rendering: pixelated; }
.trio { display: grid; margin-top: 1.1rem; gap: 1rem 1.5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); }
.vae > figcaption b { color: var(--tone-vae); } .vaebm > figcaption b { color: var(--tone-vaebm); }
.vae > img { outline: 2px solid var(--tone-vae); } .vaebm > img { outline: 2px solid var(--tone-vaebm); }
.charts { display: grid; gap: 1.25rem 1.75rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 18rem), 1fr)); }
.small-charts { grid-template-columns: repeat(auto-fit, minmax(min(100%, 9.5rem), 1fr)); }
.charts figure { margin: 0; max-width: 30rem; }
.tiles { display: grid; gap: 1rem; margin: 0 0 1.5rem; padding: 0; list-style: none; max-width: none;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 15rem), 1fr)); }
.tile { padding: 1rem 1.15rem 1.05rem; background: var(--card); border: 1px solid var(--rule); border-radius: 8px; }
.tile span { display: block; font-size: .85rem; color: var(--ink-soft); overflow-wrap: anywhere; }
.tile strong { display: block; margin: .1rem 0 .5rem; font-size: 1.5rem; line-height: 1.3; letter-spacing: -.01em;
  font-variant-numeric: tabular-nums; }
.tile strong i { font-style: normal; font-weight: 500; color: var(--tone-vae); }
.tile strong b { color: var(--tone-vaebm); }
.meter { height: 6px; border-radius: 3px; background: var(--wash); overflow: hidden; margin-bottom: .45rem; }
.meter div { height: 100%; background: var(--tone-vaebm); border-radius: 3px; }
.scroll { overflow-x: auto; margin: 0 0 1.25rem; }
table { border-collapse: collapse; font-size: .9rem; line-height: 1.4; font-variant-numeric: tabular-nums;
  min-width: 60%; }
.caption { margin: 1.25rem 0 .4rem; font: 600 .9rem var(--sans); }
th, td { padding: .42rem .9rem .42rem 0; text-align: left; white-space: nowrap; font-weight: 400;
  border-bottom: 1px solid var(--rule); }
thead th { font-size: .8rem; color: var(--ink-soft); vertical-align: bottom; }
tbody th[scope=row] { position: sticky; left: 0; background: var(--paper); }
th.group { padding-top: 1.1rem; font-weight: 600; }
.number { text-align: right; } td:last-child, th:last-child { padding-right: 0; }
.dot { display: inline-block; width: .6em; height: .6em; margin-right: .5em; border-radius: 50%;
  background: var(--tone-real); }
.dot.vae { background: var(--tone-vae); } .dot.vaebm { background: var(--tone-vaebm); }
.player { display: grid; gap: 1rem 2rem; align-items: center; margin-bottom: 1.75rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.film { overflow: hidden; border-radius: 4px; width: 100%; }
.film img { display: block; width: 100%; height: auto; }
.controls { display: flex; gap: .9rem; align-items: center; grid-column: 1 / -1; font-size: .9rem; }
.controls[hidden] { display: none; }
.controls input { flex: 1; min-width: 6rem; accent-color: var(--tone-vaebm); }
.controls output { min-width: 13em; font-variant-numeric: tabular-nums; }
button { min-width: 5em; padding: .35rem .8rem; font: inherit; color: var(--ink); background: var(--card);
  border: 1px solid var(--rule); border-radius: 6px; cursor: pointer; }
.strip { max-width: 54rem; }
.strip-labels { display: flex; margin: .3rem 0 0; padding: 0; list-style: none; max-width: none;
  font: .75rem var(--sans);
  color: var(--ink-soft); }
.strip-labels li { flex: 1; text-align: center; }
.neighbours { display: grid; gap: 1rem 1.5rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
.neighbours figure { margin: 0; }
details { margin: 0 0 .75rem; } summary { cursor: pointer; font-size: .95rem; font-weight: 600; }
pre { overflow-x: auto; margin: .75rem 0 0; padding: 1rem; background: var(--wash); border-radius: 6px;
  font: .8rem/1.5 var(--mono); }
code { font: .85em var(--mono); overflow-wrap: anywhere; }
dt { font-weight: 600; font-size: .95rem; } dd { margin: 0 0 .75rem; }
.note { margin-top: 1rem; font-size: .875rem; color: var(--ink-soft); }
footer { padding-top: 1.5rem; padding-bottom: 3rem; font-size: .85rem; color: var(--ink-soft); }
@media (max-width: 40rem) { body { font-size: 1rem; } .controls { flex-wrap: wrap; }
  .controls output { flex: 1 0 100%; } }
@media print { section { break-inside: avoid; border: 0; } nav, .controls { display: none; } }
"""

SCRIPT = """
for (const player of document.querySelectorAll('.player')) {
  const film = player.querySelector('.film img'), cursor = player.querySelector('.cursor');
  const [button, slider, output] = player.querySelector('.controls').children;
  const frames = JSON.parse(player.dataset.frames);
  let timer = null;
  const show = index => {
    const [step, energy, shift] = frames[index];
    film.style.transform = `translateY(${-100 * index / frames.length}%)`;
    cursor.style.transform = `translateX(${shift}px)`;
    output.textContent = `step ${step}, mean energy ${energy}`;
    slider.value = index;
  };
  const pause = () => { clearInterval(timer); timer = null; button.textContent = 'Play'; };
  const play = () => {
    if (+slider.value === frames.length - 1) show(0);
    timer = setInterval(() => +slider.value < frames.length - 1 ? show(+slider.value + 1) : pause(), 140);
    button.textContent = 'Pause';
  };
  film.style.animation = cursor.style.animation = 'none';
  player.querySelector('.controls').hidden = false;
  slider.oninput = () => { pause(); show(+slider.value); };
  button.onclick = () => timer ? pause() : play();
  show(frames.length - 1);
  new IntersectionObserver((seen, watch) => {
    const still = matchMedia('(prefers-reduced-motion: reduce)').matches;
    if (seen[0].isIntersecting) { watch.disconnect(); if (!still) { show(0); play(); } }
  }, { threshold: .4 }).observe(player);
}
"""
