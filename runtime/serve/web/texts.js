/* What lines say: before and after, with doubtful and differing characters marked. */
export const DOUBT = 0.8;
export const CAUSES = {
  blank: "nothing to restore", too_low: "too low to restore", sharp: "sharp already", read_well: "read well already",
  proof: "read best as it is", deadline: "not done in time", not_finite: "the network failed", guard: "not trusted", input: "cannot be used",
};

export function make(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

export function percent(share) { return Math.round(share * 100) + "%"; }

/* Which characters of two texts are the same: the longest common subsequence. */
export function same(first, second) {
  const rows = first.length, columns = second.length;
  const best = Array.from({ length: rows + 1 }, () => new Uint16Array(columns + 1));
  for (let i = rows - 1; i >= 0; i--)
    for (let j = columns - 1; j >= 0; j--)
      best[i][j] = first[i] === second[j] ? best[i + 1][j + 1] + 1 : Math.max(best[i + 1][j], best[i][j + 1]);
  const kept = [new Set(), new Set()];
  for (let i = 0, j = 0; i < rows && j < columns;) {
    if (first[i] === second[j]) { kept[0].add(i++); kept[1].add(j++); }
    else if (best[i + 1][j] >= best[i][j + 1]) i++;
    else j++;
  }
  return kept;
}

/* Text with its doubtful and its differing characters marked; runs of the same kind share an element. */
function marked(characters, confidences, kept, tag, className, none) {
  const whole = make("p", "text " + className);
  whole.lang = "";
  if (!characters.length) whole.append(make("span", "soft", none));
  let last = null, kind = "";
  characters.forEach((character, place) => {
    const doubtful = confidences[place] < DOUBT, other = kept !== null && !kept.has(place);
    const now = (other ? tag : "span") + (doubtful ? " doubt" + place : "");
    if (now !== kind) {
      last = make(other ? tag : "span", doubtful ? "doubt" : "");
      if (doubtful) last.title = percent(confidences[place]) + " sure";
      whole.append(last);
      kind = now;
    }
    last.textContent += character;
  });
  return whole;
}

function label(words, confidence) {
  const made = make("p", "soft", words + " ");
  if (confidence !== null) {
    const share = make("span", confidence < DOUBT ? "doubt" : "", percent(confidence));
    share.title = "how sure the reading is";
    made.append(share);
  }
  return made;
}

/* What was read in the restored line; `shown` is false where the answer's picture does not show it. */
function reading(line) {
  if (line.after) return { ...line.after, shown: line.applied };
  const heard = line.evidence.after;
  return typeof heard === "string" ? { text: heard, confidence: null, confidences: [], shown: line.applied } : null;
}

/* How the line's text changed: its characters that are gone and new; null where it was not read again. */
export function change(line) {
  const after = reading(line);
  if (!after) return null;
  const texts = [Array.from(line.text), Array.from(after.text)], kept = same(...texts);
  return { gone: texts[0].length - kept[0].size, fresh: texts[1].length - kept[1].size, of: texts[0].length };
}

/* A line's texts, one below the other. */
export function texts(line) {
  const whole = make("div", "read"), after = reading(line), given = line.reader === "given";
  const before = Array.from(line.text), later = after ? Array.from(after.text) : [];
  const kept = after ? same(before, later) : [null, null];
  const sure = given || !before.length ? null : line.confidence;
  whole.append(label(given ? "You said" : "Before", sure), marked(before, given ? [] : line.confidences, kept[0], "del", "before",
    line.reader ? "nothing read" : "not read"));
  if (after) {
    whole.append(label(after.shown ? "After" : "After, not shown", later.length ? after.confidence : null),
      marked(later, after.confidences, kept[1], "ins", "after", "nothing read"));
  }
  return whole;
}

/* In a sentence, what became of a line. */
export function outcome(line) {
  if (line.applied) return line.reason ? `restored; ${line.reason}` : "restored";
  return `as it was, ${CAUSES[line.cause] || line.cause}`;
}

export function details(line) {
  const seconds = Object.entries(line.timings).map(([name, value]) => `${name} ${value.toFixed(3)} s`).join(", ");
  const rows = { Reason: line.reason, Reader: line.reader || "none", Executor: line.executor, Time: seconds, Seed: line.seed,
    Steps: line.steps, Pieces: line.pieces.length, Turned: line.turned ? line.turned + "°" : "" };
  for (const [name, value] of Object.entries(line.evidence).filter(([, value]) => value !== null))
    rows["Evidence: " + name] = typeof value === "object" ? JSON.stringify(value) : String(value);
  const list = make("dl");
  for (const [name, value] of Object.entries(rows))
    if (value !== "") list.append(make("dt", "", name), make("dd", "", String(value)));
  const whole = make("details");
  whole.append(make("summary", "", "Details"), list);
  return whole;
}
