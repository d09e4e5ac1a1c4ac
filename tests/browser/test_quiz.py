"""The quizzes, worked with the keyboard, from the disk, with and without scripts."""

import pytest
from built import DESKTOP, PAGES

QUIZZES = [page for page in PAGES if page.startswith("book/quiz_")]


def test_there_are_quizzes():
    assert len(QUIZZES) >= 5


@pytest.fixture(params=[True, False], ids=["scripts", "no-scripts"])
def quiet_context(request, browser):
    context = browser.new_context(viewport=DESKTOP, java_script_enabled=request.param)
    yield context
    context.close()


@pytest.mark.parametrize("name", QUIZZES)
def test_choosing_an_answer_with_the_keyboard_shows_its_explanation(name, quiet_context, addresses):
    page = quiet_context.new_page()
    page.goto(addresses["file"] + name)
    answers = page.locator(".quiz-answer")
    assert answers.count() >= 15
    for key, answer in zip(["Enter", "Space"], [answers.first, answers.last], strict=True):
        explanation = answer.locator("p").last
        assert not explanation.is_visible()
        answer.locator("summary").focus()
        page.keyboard.press(key)
        explanation.wait_for(state="visible")
        assert explanation.inner_text().startswith(("Right.", "No."))
        page.keyboard.press(key)
        explanation.wait_for(state="hidden")


def test_tab_leads_from_answer_to_answer(browser, addresses):
    page = browser.new_page()
    page.goto(addresses["file"] + QUIZZES[0])
    summaries = page.locator(".quiz-answer > summary")
    summaries.nth(0).focus()
    page.keyboard.press("Tab")
    assert summaries.nth(1).evaluate("e => e === document.activeElement")
    page.close()


def test_the_first_choice_counts(browser, addresses):
    page = browser.new_page()
    page.goto(addresses["file"] + QUIZZES[0])
    questions = page.locator(".quiz-question")
    total = questions.count()
    questions.nth(0).locator(".quiz-right > summary").click()
    questions.nth(1).locator(".quiz-wrong > summary").first.click()
    questions.nth(1).locator(".quiz-right > summary").click()
    score = page.locator(".quiz-score")
    score.filter(has_text=f"2 of {total} questions answered, 1 right at the first choice.").wait_for()
    page.close()
