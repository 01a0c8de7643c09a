"""The report's page: markup and style, light or dark as the reader's system is; ``html`` fills in the $names."""

from __future__ import annotations

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>$title</title>
<style>
:root { --page: #f6f8fa; --card: #ffffff; --ink: #1f2933; --muted: #5b6875; --line: #dde3e9; --met: #00795a; --missed: #c03a00;
        --accent: #0072b2; --warn: #fff6e6; --warn-line: #e69f00; }
@media (prefers-color-scheme: dark) {
  :root { --page: #12171c; --card: #1b2229; --ink: #e6ebf0; --muted: #9fadba; --line: #303a44; --met: #3ecf9f; --missed: #ff8a57;
          --accent: #6cb8ea; --warn: #2b2413; --warn-line: #e69f00; }
}
* { box-sizing: border-box; }
html { background: var(--page); }
body { margin: 0; background: var(--page); color: var(--ink);
       font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 2.2rem 1.4rem 4rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .4rem; letter-spacing: -.01em; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .9rem; padding-bottom: .35rem; border-bottom: 1px solid var(--line); }
h3 { font-size: .95rem; margin: 0 0 .5rem; }
.lead { margin: 0 0 1.6rem; color: var(--muted); max-width: 75ch; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(255px, 1fr)); gap: .9rem; }
.card { background: var(--card); border: 1px solid var(--line); border-top: 3px solid var(--line); border-radius: 8px;
        padding: .9rem 1rem .8rem; }
.card.met { border-top-color: var(--met); }
.card.missed { border-top-color: var(--missed); }
.card h3 { margin: 0; color: var(--muted); font-weight: 600; font-size: .85rem; }
.card .value { font-size: 1.7rem; font-weight: 650; letter-spacing: -.02em; line-height: 1.35;
               font-variant-numeric: tabular-nums; }
.card .target { font-size: .82rem; font-weight: 600; color: var(--muted); }
.card.met .target { color: var(--met); }
.card.missed .target { color: var(--missed); }
.card p { margin: .45rem 0 0; font-size: .8rem; line-height: 1.45; color: var(--muted); }
figure { margin: 0 0 2rem; }
.paper { background: #ffffff; border: 1px solid var(--line); border-radius: 8px; padding: .8rem; overflow-x: auto; }
.paper img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption, .note { color: var(--muted); font-size: .86rem; margin-top: .5rem; max-width: 95ch; }
.scroll { overflow-x: auto; background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
section { margin-bottom: 1.8rem; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .45rem .9rem; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--muted); font-weight: 600; border-bottom: 1px solid var(--line); }
tbody tr + tr td { border-top: 1px solid var(--line); }
.warnings { list-style: none; margin: 0; padding: 0; }
.warnings li { background: var(--warn); border-left: 4px solid var(--warn-line); border-radius: 4px; padding: .55rem .9rem;
               margin-bottom: .5rem; overflow-wrap: anywhere; }
.calm { color: var(--muted); margin: 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .3rem 1.2rem; margin: 0; font-size: .88rem; }
dt { color: var(--muted); }
dd { margin: 0; overflow-wrap: anywhere; }
code, pre { font: .85rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
pre { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .9rem 1rem;
      overflow-x: auto; margin: .6rem 0 0; }
summary { cursor: pointer; color: var(--accent); font-weight: 600; }
@media print { body { background: #ffffff; } .card, figure, section { break-inside: avoid; } }
</style>
</head>
<body>
<main>
<h1>$title</h1>
$description
$headlines
<h2>Diagnoses</h2>
$warnings
$pictures
$tables
<h2>How to repeat it</h2>
<dl>$provenance</dl>
<h2>Configuration</h2>
<details open><summary>resolved configuration</summary><pre>$config</pre></details>
</main>
</body>
</html>
"""
