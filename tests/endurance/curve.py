"""Draws what tests/endurance/run.sh has measured: `curve.py CSV SVG`. Memory above, descriptors below, over the same time."""
import csv
import sys

rows = [[int(n) for n in row] for row in list(csv.reader(open(sys.argv[1])))[1:]]
seconds = max(rows[-1][0], 1)
# At most so many points: of each span the highest, so that no peak is hidden.
POINTS, LEFT, WIDTH, HEIGHT = 200, 64, 640, 120


def highest(column):
    spans = {}
    for row in rows:
        at = row[0] * POINTS // (seconds + 1)
        spans[at] = max(spans.get(at, (0, 0)), (row[column], row[0]))
    return [(second, value) for value, second in (spans[at] for at in sorted(spans))]


def nice(most):
    step = next(s for e in range(9) for s in (10**e, 2 * 10**e, 5 * 10**e) if s * 4 >= most)
    return step, step * -(-most // step)


def part(top, name, points):
    step, most = nice(max(value for _, value in points))
    y = lambda value: top + HEIGHT - value * HEIGHT / most
    out = [f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{name}</text>']
    for value in range(0, int(most) + 1, int(step)):
        out.append(f'<path d="M{LEFT} {y(value):.1f}h{WIDTH}" stroke="#ccc"/>')
        out.append(f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value}</text>')
    line = " ".join(f"{LEFT + second * WIDTH / seconds:.1f},{y(value):.1f}" for second, value in points)
    out.append(f'<polyline points="{line}" fill="none" stroke="#1463a5" stroke-width="1.5"/>')
    return out


svg = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 24} 360" font-family="sans-serif" font-size="12">']
svg.append('<rect width="100%" height="100%" fill="#fff"/>')
svg += part(32, "resident memory of the gate, MiB", [(s, kib / 1024) for s, kib in highest(1)])
svg += part(200, "open descriptors of the gate", highest(2))
for tenth in range(0, 11, 2):
    at = LEFT + tenth * WIDTH / 10
    svg.append(f'<text x="{at:.0f}" y="338" text-anchor="middle">{seconds * tenth / 600:.3g} min</text>')
svg.append("</svg>")
open(sys.argv[2], "w").write("\n".join(svg) + "\n")
