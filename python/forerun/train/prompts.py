"""Instruction prompts for a target to answer, composed of templates and lists of words by a seed.

A draft should be trained on what the target itself writes. These prompts make it write texts of many kinds; they are
original to this project (Apache-2.0, as the rest), and taken from no benchmark or data set.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from forerun.checks import numbered_lines
from forerun.train.topics import (
    CODE_PAIRS,
    CODE_TASKS,
    COUNTRIES,
    ENGLISH_SENTENCES,
    FACTS,
    INVENTIONS,
    JOBS,
    LANGUAGES_OF_CODE,
    MECHANISMS,
    MOODS,
    OBJECTS,
    PAIRS,
    PASSAGES,
    PEOPLE,
    PLACES,
    READERS,
    SENTENCES,
    THINGS,
    TOPICS,
)

Pick = random.Random
GREEDY = 0.6  # share of answers


@dataclass(frozen=True)
class Prompt:
    """A user's message of one kind, and how its answer is to be sampled (temperature 0: greedy)."""

    index: int
    kind: str
    text: str
    temperature: float
    seed: int


def compose(count: int, seed: int = 0, greedy: float = GREEDY, passages: list[str] | None = None) -> Iterator[Prompt]:
    """`count` prompts; those of one seed are the same in every run, and a larger count begins with the smaller's.

    greedy: the share to be answered at temperature 0; the rest at 0.7 to 1.0.
    passages: texts to read, in place of the built-in ones, for summaries and questions with a context.
    """
    if not 0 <= greedy <= 1:
        raise ValueError(f"greedy: expected a share from 0 to 1, found {greedy!r}")
    kinds = list(_KINDS)
    weights = [_KINDS[kind][0] for kind in kinds]
    texts = passages or PASSAGES
    seen: set[str] = set()
    for index in range(count):
        pick = random.Random(f"{seed}/{index}")
        for _ in range(_TRIES):
            kind = pick.choices(kinds, weights)[0]
            text = _KINDS[kind][1](pick, texts)
            if text not in seen:
                break
        seen.add(text)
        temperature = answered_at(pick, greedy)
        yield Prompt(index, kind, text, temperature, pick.randrange(2**31))


def given(path: Path, seed: int = 0, greedy: float = GREEDY) -> Iterator[Prompt]:
    """The prompts of a file, {"prompt": "..."} a line; how they are answered is drawn as in `compose`.

    Raises ValueError with the number of a line that is none.
    """
    for number, line in numbered_lines(path):
        try:
            text = json.loads(line)["prompt"]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f'{path}: line {number}: expected {{"prompt": "..."}} ({error})') from error
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"{path}: line {number}: the prompt is no text")
        pick = random.Random(f"{seed}/given/{number - 1}")
        yield Prompt(number - 1, "given", text, answered_at(pick, greedy), pick.randrange(2**31))


def answered_at(pick: Pick, greedy: float = GREEDY) -> float:
    """A temperature for an answer: 0 with probability `greedy`, else 0.7 to 1.0."""
    return 0.0 if pick.random() < greedy else round(pick.uniform(0.7, 1.0), 2)


def _writing(pick: Pick, _: list[str]) -> str:
    return pick.choice(
        [
            f"Write a {pick.choice(MOODS)} short story about {pick.choice(OBJECTS)} in {pick.choice(PLACES)}.",
            f"Write an e-mail to {pick.choice(PEOPLE)} asking for advice on {pick.choice(TOPICS)}. Keep it "
            f"{pick.choice(['short', 'polite', 'informal', 'under 120 words'])}.",
            f"Write a blog post introduction about {pick.choice(TOPICS)} for {pick.choice(READERS)}.",
            f"Write a {pick.choice(MOODS)} poem about {pick.choice(TOPICS)}.",
            f"Describe {pick.choice(PLACES)} to somebody who has never been there, in {pick.choice('345')} sentences.",
            f"Write a product description for {pick.choice(THINGS)} made by {pick.choice(JOBS)}.",
            f"Continue this story: {pick.choice(PEOPLE)} had just found {pick.choice(OBJECTS)} in "
            f"{pick.choice(PLACES)} when",
            f"Give me {pick.choice(['three', 'five', 'six'])} ideas for an article about {pick.choice(TOPICS)}.",
            f"Write a letter from {pick.choice(PEOPLE)}, {pick.choice(JOBS)}, to a friend in {pick.choice(PLACES)}.",
            f"Draft a short speech on why {pick.choice(TOPICS)} should matter to {pick.choice(READERS)}.",
            f"Compare {pick.choice(TOPICS)} and {pick.choice(TOPICS)} in an essay of two paragraphs.",
            f"Rewrite this sentence in three different styles: {pick.choice(ENGLISH_SENTENCES)}",
        ]
    )


def _roleplay(pick: Pick, _: list[str]) -> str:
    return pick.choice(
        [
            f"You are {pick.choice(JOBS)} in {pick.choice(PLACES)}. Tell me about your day.",
            f"Act as {pick.choice(JOBS)} and explain {pick.choice(TOPICS)} to me.",
            f"Answer as {pick.choice(JOBS)} would: what do you think about {pick.choice(TOPICS)}?",
            f"Write a dialogue between {pick.choice(JOBS)} and {pick.choice(JOBS)} about {pick.choice(TOPICS)}.",
            f"Imagine that you are {pick.choice(OBJECTS)}. Tell your story in a {pick.choice(MOODS)} tone.",
            f"You are {pick.choice(JOBS)} and I am your apprentice {pick.choice(PEOPLE)}. Give me your first lesson.",
            f"Be my interviewer for a job as {pick.choice(JOBS)}; ask me {pick.choice(['three', 'five'])} questions.",
        ]
    )


def _reasoning(pick: Pick, _: list[str]) -> str:
    a, b, c = pick.sample(PEOPLE, 3)
    thing, other = pick.sample(TOPICS, 2)
    return pick.choice(
        [
            f"{a} is taller than {b}, and {b} is taller than {c}. Who is the shortest? Explain your reasoning.",
            f"{a} arrived before {b} but after {c}. In which order did they arrive?",
            f"What are the advantages and disadvantages of {thing}?",
            f"Which of these does not belong with the others, and why: {', '.join(pick.sample(THINGS, 4))}?",
            f"If all {pick.choice(THINGS)} in {pick.choice(PLACES)} disappeared overnight, what would happen?",
            f"What would {a} have to consider before moving to {pick.choice(PLACES)}?",
            f"Explain how {thing} could be connected with {other}.",
            f"{a} says that {thing} is not important. Give arguments for and against.",
            f"A box holds {pick.randint(2, 9)} red and {pick.randint(2, 9)} blue balls. {a} takes one without looking. "
            "How likely is a red one? Explain.",
        ]
    )


def _maths(pick: Pick, _: list[str]) -> str:
    a, b = pick.sample(PEOPLE, 2)
    thing = pick.choice(THINGS)
    n, m, k = pick.randint(3, 60), pick.randint(2, 12), pick.randint(2, 9)
    return pick.choice(
        [
            f"{a} has {n * m} {thing} and gives {n} of them to {b}. How many are left?",
            f"{a} buys {n} {thing} at {m} dollars each and pays with a note of {(n * m // 100 + 1) * 100} dollars. "
            "How much change is there?",
            f"{a} packs {n * k} {thing} into boxes of {k}. How many boxes does {a} need? Show your work.",
            f"A train travels {n * 10} km in {m} hours. What is its average speed?",
            f"{a} is {k} times as old as {b}. Together they are {(k + 1) * m} years old. How old is each of them?",
            f"Solve for x: {m}x + {k} = {m * n + k}.",
            f"What is {pick.choice([5, 10, 15, 20, 25, 30, 40])} percent of {n * 20}?",
            f"A rectangle is {n} cm long and {m} cm wide. Compute its area and its perimeter.",
            f"{a} reads {m} pages on the first day and {k} more pages every following day. How many pages are that "
            f"after {pick.randint(3, 7)} days?",
            f"A recipe for {k} people needs {m * 50} g of flour. How much is needed for {k + m} people?",
            f"{a} earns {n} dollars an hour and works {m} hours a day for {k} days. {b} earns half as much. How much "
            "do they earn together?",
            f"The {thing} cost {n} dollars. The price rises by {k * 5} percent. What is the new price?",
        ]
    )


def _coding(pick: Pick, _: list[str]) -> str:
    language, task = pick.choice(LANGUAGES_OF_CODE), pick.choice(CODE_TASKS)
    return pick.choice(
        [
            f"Write a {language} function that {task}.",
            f"Write a {language} program that {task}, and explain it step by step.",
            f"How do I write {language} code that {task}?",
            f"Show me a short {language} example that {task}. Add comments.",
            f"Write a function in {language} that {task}, together with two tests.",
            f'Complete this Python function:\n\ndef {_name(task)}(values):\n    """Return what {task}."""\n',
            f"What are common mistakes when one writes {language} code that {task}?",
            f"Explain the difference between {pick.choice(CODE_PAIRS)} in {language}.",
        ]
    )


def _extraction(pick: Pick, texts: list[str]) -> str:
    passage = pick.choice(texts)
    return pick.choice(
        [
            f"Extract all names and numbers from this text and list them:\n\n{passage}",
            f"Turn the following text into a JSON object with the most important facts:\n\n{passage}",
            f"List the key facts of this text as bullet points:\n\n{passage}",
            f"Give this text a title and three keywords:\n\n{passage}",
            f"Make a table of the people, places and dates in this text:\n\n{passage}",
        ]
    )


def _stem(pick: Pick, _: list[str]) -> str:
    return pick.choice(
        [
            f"Explain {pick.choice(TOPICS)} to {pick.choice(READERS)}.",
            f"What is the scientific background of {pick.choice(TOPICS)}?",
            f"How does {pick.choice(MECHANISMS)} work?",
            f"What is the difference between {pick.choice(PAIRS)}?",
            f"Describe an experiment about {pick.choice(MECHANISMS)} that one can do at home.",
            f"Why is {pick.choice(MECHANISMS)} important in engineering?",
            f"List five facts about {pick.choice(TOPICS)}.",
        ]
    )


def _humanities(pick: Pick, _: list[str]) -> str:
    return pick.choice(
        [
            f"How did {pick.choice(TOPICS)} change everyday life?",
            f"Summarise the history of {pick.choice(TOPICS)} in {pick.choice(['one paragraph', 'five points'])}.",
            f"What can {pick.choice(READERS)} learn from {pick.choice(TOPICS)}?",
            f"Discuss the influence of {pick.choice(TOPICS)} on {pick.choice(['art', 'trade', 'education', 'law'])}.",
            f"Plan a lesson about {pick.choice(TOPICS)} for {pick.choice(READERS)}.",
            f"Tell me about the culture of {pick.choice(COUNTRIES)}.",
            f"Plan a trip of {pick.randint(2, 7)} days to {pick.choice(COUNTRIES)}.",
        ]
    )


def _translation(pick: Pick, _: list[str]) -> str:
    language = pick.choice(list(SENTENCES))
    if pick.random() < 0.7:
        return pick.choice(["Translate into English: ", f"What does this {language} sentence mean? "]) + pick.choice(
            SENTENCES[language]
        )
    return f"Translate into {language}: {pick.choice(ENGLISH_SENTENCES)}"


def _summary(pick: Pick, texts: list[str]) -> str:
    passage = " ".join(pick.sample(texts, pick.choice([1, 1, 2])))
    return pick.choice(
        [
            f"Summarise this in {pick.choice(['one sentence', 'two sentences', 'a short paragraph'])}:\n\n{passage}",
            f"{passage}\n\nWhat is the main point of this text?",
            f"Shorten the following text for {pick.choice(READERS)}:\n\n{passage}",
        ]
    )


def _question(pick: Pick, _: list[str]) -> str:
    fact = pick.choice(FACTS).format(pick.choice(COUNTRIES))
    return pick.choice(
        [
            f"What is {fact}?",
            f"Tell me {fact}.",
            f"Is it true that {pick.choice(TOPICS)} has something to do with {pick.choice(TOPICS)}?",
            f"Who first studied {pick.choice(MECHANISMS)}?",
            f"When was {pick.choice(INVENTIONS)} invented?",
            f"Give me three tips for {pick.choice(TOPICS)}.",
            f"What do people mean by {pick.choice(MECHANISMS)}?",
        ]
    )


def _context(pick: Pick, texts: list[str]) -> str:
    chosen = pick.sample(texts, pick.choice([1, 2, 3]))
    question = pick.choice(
        [
            "What is this about?",
            "Which numbers are mentioned, and what do they mean?",
            "What happened first?",
            "Who or what is the most important in it?",
            "What problem is described, and how was it solved?",
        ]
    )
    documents = "\n".join(f"[{index}] {text}" for index, text in enumerate(chosen, 1))
    return pick.choice(
        [
            f"Answer the question from the documents only.\n\n{documents}\n\nQuestion: {question}",
            f"Context:\n{documents}\n\nUsing the context, answer: {question}",
        ]
    )


def _name(task: str) -> str:
    return "_".join(word for word in task.lower().split()[:3] if word.isalpha())


_TRIES = 20  # for a text that was not there before

_KINDS: dict[str, tuple[int, Callable[[Pick, list[str]], str]]] = {
    "writing": (16, _writing),
    "roleplay": (9, _roleplay),
    "reasoning": (9, _reasoning),
    "maths": (12, _maths),
    "coding": (12, _coding),
    "extraction": (5, _extraction),
    "stem": (10, _stem),
    "humanities": (9, _humanities),
    "translation": (4, _translation),
    "summary": (5, _summary),
    "question": (6, _question),
    "context": (3, _context),
}
