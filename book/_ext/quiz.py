"""A question whose answers explain themselves: the directive ``question``.

The answers are a definition list. The term is the answer; the definition begins with **Right.** or **No.** and says why.
On a page each answer folds open by itself, so a quiz needs no script, no network and no mouse.
"""

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

RIGHT, WRONG = "Right.", "No."


class quiz_question(nodes.General, nodes.Element):
    """One question with its answers."""


class quiz_title(nodes.General, nodes.TextElement):
    """The line above a question."""


class quiz_answer(nodes.General, nodes.Element):
    """An answer and what is to be said about it."""


class quiz_choice(nodes.General, nodes.TextElement):
    """What the reader chooses."""


def verdict(definition):
    """Return the strong word with which an explanation begins, or None."""
    first = next(iter(definition.findall(nodes.strong)), None)
    begins = definition.astext().lstrip()
    return first.astext() if first is not None and begins.startswith(first.astext()) else None


class Question(SphinxDirective):
    """The text of a question, then a definition list of its answers."""

    has_content = True
    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        content = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, content)
        lists = [child for child in content if isinstance(child, nodes.definition_list)]
        if len(lists) != 1:
            raise self.error(f"a question needs one definition list, its answers; found {len(lists)}")
        number = self.env.temp_data["quiz-number"] = self.env.temp_data.get("quiz-number", 0) + 1
        question = quiz_question(number=number)
        text, messages = self.state.inline_text(f"{number}. {self.arguments[0]}", self.lineno)
        question += quiz_title("", "", *text, number=number)
        question += [child for child in content if child is not lists[0]]
        question += [self.answer(item) for item in lists[0]]
        right = sum(answer["right"] for answer in question.findall(quiz_answer))
        if right != 1:
            raise self.error(f"a question needs exactly one answer that is right, found {right}")
        return [question, *messages]

    def answer(self, item):
        term, *definitions = item
        word = verdict(definitions[0])
        if word not in (RIGHT, WRONG):
            raise self.error(
                f"the explanation of {term.astext()!r} must begin with **{RIGHT}** or **{WRONG}**"
            )
        answer = quiz_answer(right=word == RIGHT)
        answer += quiz_choice("", "", *term.children)
        answer += [child for definition in definitions for child in definition]
        return answer


def visit_question(self, node):
    self.body.append(f'<div class="quiz-question" role="group" aria-labelledby="quiz-{node["number"]}">\n')


def visit_title(self, node):
    self.body.append(f'<p class="quiz-title" id="quiz-{node["number"]}" role="heading" aria-level="2">')


def visit_answer(self, node):
    self.body.append(f'<details class="quiz-answer quiz-{"right" if node["right"] else "wrong"}">\n')


def visit_choice(self, node):
    self.body.append("<summary>")


def closing(tag):
    return lambda self, node: self.body.append(f"</{tag}>\n")


def write(text):
    return lambda self, node: self.body.append(text)


def setup(app):
    app.add_directive("question", Question)
    html = {
        quiz_question: (visit_question, closing("div")),
        quiz_title: (visit_title, closing("p")),
        quiz_answer: (visit_answer, closing("details")),
        quiz_choice: (visit_choice, closing("summary")),
    }
    # On paper the explanation stands below its answer.
    latex = {
        quiz_question: (write("\n\\begin{bookquestion}\n"), write("\\end{bookquestion}\n")),
        quiz_title: (write("\\bookhead{}{"), write("}\n")),
        quiz_answer: (write("\n\\begin{bookanswer}"), write("\n\\end{bookanswer}\n")),
        quiz_choice: (write("\\emph{"), write("}\n\n")),
    }
    for kind, visitors in html.items():
        app.add_node(kind, html=visitors, latex=latex[kind])
    return {"version": "1.0", "parallel_read_safe": True, "parallel_write_safe": True}
