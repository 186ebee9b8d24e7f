#!/usr/bin/env python3
"""Writes menus.jsonl and answers/: a small world in which the true Pareto front is known.

A town's assistant answers 24 questions. Every question has a menu of ten answers, put together from the parts
below: some blunt, some polite, detailed, careful or playful. Ten objectives are functions of an answer's words
alone (`OBJECTIVES`), and they conflict. Each objective's scores are scaled over the whole world to mean 0 and
standard deviation `SPREAD`; a preference between two answers is then the Bradley-Terry probability of the
difference of their scores, which is never 0 or 1, so that every optimum is finite.

For supervised fine-tuning, answers/ has a data set for each of the first five objectives: to every question RECORDS
answers of its menu, each at least once, the others in proportion to exp(2 score). All objectives have the same
answers in different numbers, so that this optimum is finite, too.

    python3 make_world.py            writes menus.jsonl and answers/ beside this file
    python3 make_world.py --check    compares instead, and fails where they differ

Only Python's standard library is needed, and the same seed gives the same file.
"""

import json
import math
import random
import re
import statistics
import sys
from pathlib import Path

SEED = 7
ANSWERS = 10
SPREAD = 0.8
FINE_TUNED = 5
RECORDS = 20

# Question, the blunt answer, the answer as a sentence, two details, a reason, a joke.
QUESTIONS = [
    ("When does the bakery open?", "At seven.", "The bakery opens at seven.", "It is on Mill Street, next to the bridge.", "On Sundays it opens at nine.", "The ovens are lit at four.", "The early bird gets the bun."),
    ("Where is the library?", "On the square.", "The library is on the square.", "It is open from ten to six.", "The children's room is upstairs.", "It moved there after the flood.", "Just follow the whispers."),
    ("When does the last bus leave?", "At eleven.", "The last bus leaves at eleven.", "It stops at the town hall and the harbour.", "On Fridays there is one more at midnight.", "The drivers need their rest.", "Cinderella took a pumpkin instead."),
    ("What does the museum cost?", "Six coins.", "The museum costs six coins.", "Children pay two coins.", "It is free on the first Monday.", "The money keeps the roof dry.", "The dinosaurs never pay."),
    ("Is the pool open today?", "Yes.", "The pool is open today.", "It closes at eight in the evening.", "The small pool is kept warm.", "The water was changed last week.", "The fish have been informed."),
    ("Where can I rent a bicycle?", "At the station.", "You can rent a bicycle at the station.", "A day costs nine coins.", "Helmets are free.", "The town wants fewer cars.", "Two wheels beat two left feet."),
    ("When is the market?", "On Saturday.", "The market is on Saturday.", "It begins at eight and ends at two.", "The cheese stand is by the fountain.", "Farmers come from the hills.", "The cheese is old enough to vote."),
    ("Who repairs shoes?", "Mister Bell.", "Mister Bell repairs shoes.", "His shop is behind the church.", "A new heel takes one day.", "He learned it from his mother.", "He saves lost soles."),
    ("Does it rain tomorrow?", "No.", "It does not rain tomorrow.", "The morning is cloudy.", "The wind comes from the west.", "The high pressure stays for days.", "Umbrellas are on holiday."),
    ("Where is the doctor?", "On Hill Road.", "The doctor is on Hill Road.", "The door is the green one.", "On Wednesdays she visits the villages.", "The old office was too small.", "Apples are sold next door."),
    ("What time is the concert?", "At eight.", "The concert is at eight.", "The doors open an hour before.", "The second half begins at nine.", "The hall must cool down first.", "The triangle player is always early."),
    ("Can I swim in the lake?", "Yes.", "You can swim in the lake.", "The beach on the north side is flat.", "The water has twenty degrees.", "The springs keep it clean.", "The ducks will judge your style."),
    ("Where do I park?", "By the mill.", "You can park by the mill.", "An hour costs one coin.", "After six it is free.", "The centre is for people on foot.", "Horses use the other side."),
    ("When does the school start?", "In September.", "The school starts in September.", "The first day is the second Monday.", "Lessons begin at eight.", "August is for the harvest.", "The pencils are already nervous."),
    ("Who is the mayor?", "Ada Stone.", "The mayor is Ada Stone.", "Her office is in the town hall.", "She was elected three years ago.", "People liked her plan for the park.", "Her cat runs the rest."),
    ("How far is the castle?", "Two miles.", "The castle is two miles away.", "The path begins behind the church.", "It takes forty minutes on foot.", "It was built to watch the river.", "The ghost walks it in ten."),
    ("What can I eat at the harbour?", "Fish.", "You can eat fish at the harbour.", "The soup is made every morning.", "The terrace looks over the boats.", "The catch comes in at dawn.", "The gulls recommend your plate."),
    ("Is there a pharmacy?", "Yes.", "There is a pharmacy on the square.", "It closes at seven.", "A bell at the door works at night.", "Two of them closed last year.", "It cures everything but Mondays."),
    ("Where is the post office?", "On Long Street.", "The post office is on Long Street.", "The letter box is emptied at five.", "Parcels are at the second window.", "The railway used to end there.", "Snails are faster uphill."),
    ("When is the park closed?", "At night.", "The park is closed at night.", "The gates are shut at ten.", "The rose garden is in the east.", "The owls need the dark.", "The trees sleep standing up."),
    ("Who sells tickets for the boat?", "The kiosk.", "The kiosk sells tickets for the boat.", "It stands at the end of the pier.", "A trip takes one hour.", "The captain does not like coins.", "Pirates pay double."),
    ("Do the shops open on Sunday?", "No.", "The shops do not open on Sunday.", "The bakery is the exception.", "The kiosk sells milk and bread.", "The town voted for it.", "Even the tills take a nap."),
    ("Where can I see the stars?", "On the hill.", "You can see the stars on the hill.", "The observatory has a large lens.", "On clear nights it opens at nine.", "The valley is too bright.", "Bring your own wishes."),
    ("How old is the bridge?", "Six hundred years.", "The bridge is six hundred years old.", "It has five arches.", "The middle one was rebuilt.", "A flood took the wooden one.", "It only creaks when it laughs."),
]

THANKS = "Thank you for asking!"
HEDGE = "As far as I know, this may change, so perhaps check again."
CERTAIN = "That is certainly so."
OFFER = "Shall I write it down for you, please?"
WISH = "Have a lovely day!"

# What an answer is made of, in its order. Each question draws ANSWERS of these, always the first and the last.
STYLES = [
    "blunt",
    "plain",
    "blunt joke",
    "blunt hedge",
    "blunt wish",
    "plain certain",
    "thanks plain",
    "plain detail",
    "plain joke wish",
    "hedge plain detail",
    "plain detail more",
    "thanks plain detail wish",
    "plain detail reason joke",
    "thanks plain offer wish",
    "plain detail more reason certain",
    "thanks plain detail more reason offer wish",
]

WORD = re.compile(r"[A-Za-z']+")


def count(words, *wanted):
    return sum(word in wanted for word in words)


def first_fact(answer, blunt, plain):
    """How many words stand before the answer itself."""
    places = [answer.find(core) for core in (plain, blunt) if core in answer]
    return len(WORD.findall(answer[: min(places)]))


# Every objective is a function of the answer (and of its question's parts, to know what is a fact); higher is better.
OBJECTIVES = {
    "brevity": lambda a, q: -len(WORD.findall(a)),
    "detail": lambda a, q: sum(part in a for part in (q[3], q[4], q[5])),
    "politeness": lambda a, q: count(WORD.findall(a.lower()), "thank", "please", "lovely"),
    "caution": lambda a, q: (HEDGE in a) - (CERTAIN in a),
    "playfulness": lambda a, q: q[6] in a,
    "directness": lambda a, q: -first_fact(a, q[1], q[2]),
    "warmth": lambda a, q: a.count("!") + 0.5 * ("you" in WORD.findall(a.lower())),
    "sobriety": lambda a, q: -a.count("!") - 2 * (q[6] in a),
    "initiative": lambda a, q: OFFER in a,
    "explanation": lambda a, q: q[5] in a,
}


def answer(style, question):
    _, blunt, plain, detail, more, reason, joke = question
    parts = {
        "blunt": blunt, "plain": plain, "detail": detail, "more": more, "reason": reason, "joke": joke,
        "thanks": THANKS, "hedge": HEDGE, "certain": CERTAIN, "offer": OFFER, "wish": WISH,
    }
    return " ".join(parts[part] for part in style.split())


def menus():
    rng = random.Random(SEED)
    rows = []
    for question in QUESTIONS:
        middle = rng.sample(STYLES[1:-1], ANSWERS - 2)
        styles = [STYLES[0]] + sorted(middle, key=STYLES.index) + [STYLES[-1]]
        rows.append((question, [answer(style, question) for style in styles]))
    scores = {}
    for name, score in OBJECTIVES.items():
        raw = [[float(score(text, question)) for text in answers] for question, answers in rows]
        everything = [value for row in raw for value in row]
        mean, spread = statistics.fmean(everything), statistics.pstdev(everything)
        scores[name] = [[round(SPREAD * (value - mean) / spread, 4) for value in row] for row in raw]
    for index, (question, answers) in enumerate(rows):
        yield {
            "prompt": question[0],
            "responses": answers,
            "scores": {name: rows_of[index] for name, rows_of in scores.items()},
        }


def shares(weights, total):
    """`total` in proportion to the weights, as whole numbers: what rounding down leaves goes to the largest remainders."""
    exact = [total * weight / sum(weights) for weight in weights]
    counts = [math.floor(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: round(counts[i] - exact[i], 9))
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts


def answers_for(objective, rows):
    """The data set of an objective: prompts and completions."""
    for row in rows:
        weights = [math.exp(2 * score) for score in row["scores"][objective]]
        counts = shares(weights, RECORDS - ANSWERS)
        for response, count in zip(row["responses"], counts):
            for _ in range(1 + count):
                yield {"prompt": row["prompt"], "completion": response}


def main():
    here = Path(__file__).parent
    rows = list(menus())
    files = {"menus.jsonl": rows}
    for objective in list(OBJECTIVES)[:FINE_TUNED]:
        files[f"answers/{objective}.jsonl"] = answers_for(objective, rows)
    for name, records in files.items():
        path = here / name
        text = "".join(json.dumps(record) + "\n" for record in records)
        if "--check" not in sys.argv[1:]:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"error: {name} is not what this program writes; run it without --check")


if __name__ == "__main__":
    main()
