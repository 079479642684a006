"""The style sheet of a report: light and dark, narrow screens and print."""

STYLE = """
:root { color-scheme: light dark; --ink: #1d2329; --quiet: #57606a; --paper: #ffffff; --rule: #d0d7de; --soft:
  #f3f5f7;
  --bar: #3f72a8; --link: #0b5cad; --good: #1a6b3c; --good-soft: #e6f4ea; --warn: #9a2a12; --warn-soft: #fdece7; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e4e8ec; --quiet: #a3adb7; --paper: #15191e;
  --rule: #3a424b; --soft: #1e242b; --bar: #7faede; --link: #8fc1ff; --good: #8fd6a8; --good-soft: #17301f;
  --warn: #ffb09c; --warn-soft: #3b1d15; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.25rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", "Noto Sans", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.35rem; margin: 2.5rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1.05rem; margin: 1.5rem 0 .5rem; }
p { margin: 0 0 .75rem; max-width: 48rem; }
a { color: var(--link); }
.quiet { color: var(--quiet); margin: 0; }
.note, figcaption { color: var(--quiet); font-size: .875rem; }
.good, .warning { border-left: 4px solid var(--good); background: var(--good-soft); color: var(--good);
  padding: .5rem .75rem; border-radius: 0 4px 4px 0; white-space: pre-line; }
.warning { border-color: var(--warn); background: var(--warn-soft); color: var(--warn); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; margin: 1rem 0 0; padding: 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); gap: .5rem 1.25rem;
  margin: 0; }
.facts dt { color: var(--quiet); font-size: .8125rem; }
.facts dd { margin: 0; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; max-width: 100%; margin-bottom: .5rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9375rem; overflow-wrap: normal; }
th, td { padding: .3rem .75rem .3rem 0; text-align: left; font-weight: 400; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
thead th { color: var(--quiet); font-size: .8125rem; vertical-align: bottom; }
.number { text-align: right; }
pre { background: var(--soft); border-radius: 4px; padding: .6rem .75rem; margin: 0 0 .75rem; white-space: pre-wrap; }
code { font: .875rem/1.45 ui-monospace, "Cascadia Mono", "DejaVu Sans Mono", monospace; }
figure { margin: 0; }
section > figure { margin: 0 0 1.5rem; }
section > figure > figcaption { margin-top: .4rem; }
img { display: block; width: 100%; height: auto; image-rendering: pixelated; }
.map { background: var(--soft); }
.panels { display: grid; grid-template-columns: repeat(var(--columns, 1), minmax(0, 1fr)); gap: .5rem;
  margin-bottom: .5rem; align-items: end; }
.panels figcaption { font-size: .75rem; line-height: 1.3; padding-top: .15rem; }
.three { --columns: 3; gap: 1.25rem; align-items: start; } .two { --columns: 2; gap: 1.5rem; }
.place { max-width: 64rem; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); gap: 1.25rem;
  margin-bottom: 1rem; align-items: start; }
.cards > figure > img { height: 11rem; object-fit: contain; background: var(--soft); border-radius: 4px; padding:
  .4rem; }
.cards figcaption { margin-top: .3rem; }
.pair { display: flex; gap: .35rem; align-items: start; } .pair > div { flex: 1 1 0; min-width: 0; }
.over { position: relative; overflow: hidden; }
.scale { position: absolute; left: 4%; bottom: .4rem; border-bottom: 3px solid #fff; background: rgb(0 0 0 / .6);
  color: #fff; font-size: .6875rem; line-height: 1.3; text-align: center; white-space: nowrap; min-width:
  max-content; }
.mark { position: absolute; transform: translate(-50%, -50%); width: 1.35rem; height: 1.35rem; border-radius: 50%;
  background: #fff; color: #000; border: 2px solid #000; font-size: .75rem; line-height: 1.1rem; text-align: center;
  font-weight: 600; }
.ring { position: absolute; transform: translate(-50%, -50%); width: 1.1rem; height: 1.1rem; border-radius: 50%;
  border: 2px solid #fff; box-shadow: 0 0 0 1px #000, inset 0 0 0 1px #000; }
.ramp { display: block; height: .5rem; margin-top: .35rem; border-radius: 2px; max-width: 12rem;
  background: linear-gradient(90deg, #440154, #3b528b, #21918c, #5ec962, #fde725); }
.key { display: flex; gap: 1rem; font-size: .875rem; margin-bottom: .75rem; }
.key span::before { content: ""; display: inline-block; width: .8rem; height: .8rem; margin-right: .35rem;
  background: #4477aa; }
.key .left::before { background: #bbb; } .key .failed::before { background: #cc3311; }
.chart { display: block; width: 100%; height: auto; stroke-linejoin: round; font-family: inherit; }
.chart .label { fill: var(--quiet); font-size: 12px; } .chart .bar { fill: var(--bar); }
.chart .rule { stroke: var(--rule); fill: none; }
.least { min-width: 36rem; max-width: 56rem; }
@media (max-width: 40rem) { body { padding: .9rem; font-size: 15px; }
  .panels { --columns: 2 !important; } .two { --columns: 1 !important; }
  .facts, .small { grid-template-columns: repeat(2, minmax(0, 1fr)); } .small > figure > img { height: 8rem; } }
@page { size: A4; margin: 14mm; }
@media print { body { max-width: none; padding: 0; font-size: 10pt; } nav { display: none; } a { color: inherit; }
  h2, h3 { break-after: avoid; } figure, tr, pre, .panels, .facts > div, .good, .warning { break-inside: avoid; }
  .place, .cards > figure { break-inside: avoid; } .wide { overflow: visible; } .least { min-width: 0; }
  th, td { padding-right: .5rem; } table { font-size: 8.5pt; }
  .cards { grid-template-columns: repeat(2, 1fr); } .small { grid-template-columns: repeat(4, 1fr); }
  .cards > figure > img { height: 32mm; }
  .facts { grid-template-columns: repeat(3, 1fr); }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
