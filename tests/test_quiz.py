"""Laws of the quizzes' sources: each part of the book ends with one, and each question has one right answer."""

import re

import pytest
from test_chapters import ROOT, pages_of, toc

QUIZZES = sorted((ROOT / "book").glob("quiz_*.md"))
each_quiz = pytest.mark.parametrize("quiz", QUIZZES, ids=lambda path: path.stem)


def questions(quiz):
    """Return the title and the body of each question."""
    text = quiz.read_text(encoding="utf-8")
    return re.findall(r"^```\{question\} ([^\n]+)\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def answers(body):
    """Return the first word of each explanation, and the explanation."""
    return re.findall(r"^: \*\*(\w+)\.\*\*(.*?)(?=\n\n|\Z)", body, flags=re.DOTALL | re.MULTILINE)


def test_every_numbered_part_is_followed_by_its_quiz():
    parts = toc()["parts"]
    numbered = [place for place, part in enumerate(parts) if part.get("numbered")]
    last = [list(pages_of(parts[place + 1])) for place in numbered]
    assert all(len(pages) == 1 and pages[0].startswith("book/quiz_") for pages in last)
    assert sorted(pages[0] for pages in last) == [f"book/{quiz.stem}" for quiz in QUIZZES]


@each_quiz
def test_quiz_has_five_to_eight_questions(quiz):
    assert 5 <= len(questions(quiz)) <= 8
    titles = [title for title, _ in questions(quiz)]
    assert len(set(titles)) == len(titles)


@each_quiz
def test_every_question_has_one_right_answer_among_three_or_four(quiz):
    for title, body in questions(quiz):
        words = [word for word, _ in answers(body)]
        assert len(words) == len(re.findall(r"^: ", body, flags=re.MULTILINE)), title
        assert len(words) in (3, 4) and set(words) == {"Right", "No"}, title
        assert words.count("Right") == 1, title


@each_quiz
def test_every_answer_is_explained_and_every_question_leads_into_its_part(quiz):
    parts = toc()["parts"]
    place = next(i for i, part in enumerate(parts) if f"book/{quiz.stem}" in pages_of(part))
    chapters = [page.removeprefix("book/") for page in pages_of(parts[place - 1])]
    sources = "\n".join((ROOT / "book" / f"{chapter}.md").read_text(encoding="utf-8") for chapter in chapters)
    for title, body in questions(quiz):
        assert all(len(explanation.split()) >= 8 for _, explanation in answers(body)), title
        targets = re.findall(r"\]\((\w+)\.md#", body)
        labels = re.findall(r"\{(?:\w+:)?\w+\}`(?:[^`<]*<)?([\w-]+)>?`", body)
        known = [label for label in labels if re.search(rf"(label|name): *{re.escape(label)}\b", sources)]
        assert known or set(targets) & set(chapters), f"{title}: no link to a chapter of the part"


@each_quiz
def test_the_right_answer_is_not_always_at_the_same_place(quiz):
    places = [[word for word, _ in answers(body)].index("Right") for _, body in questions(quiz)]
    assert max(places.count(place) for place in set(places)) <= 0.7 * len(places), places


@each_quiz
def test_no_number_of_a_chapter_is_typed(quiz):
    assert not re.search(r"\d+\.\d+|\d+ ?%", quiz.read_text(encoding="utf-8"))
