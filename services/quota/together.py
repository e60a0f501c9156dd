"""What waits for its turn is answered together: asks of several commands are one commit."""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime

from eventsourcing.persistence import PersistenceError


class Together[Question, Answer]:
    """Answers questions a batch at a time; whatever comes meanwhile is the next batch.

    Called from threads, as many as the broker has workers: that bounds what waits. Whoever gets the
    turn answers for all who wait.
    """

    def __init__(
        self, answer: Callable[[Sequence[Question], datetime], Sequence[Answer]], *, most: int
    ) -> None:
        self._answer = answer
        self._most = most  # questions in a batch; a command is never cut
        self.waiting: deque[_Command[Question, Answer]] = deque()
        self._turn = threading.Lock()

    def ask(self, questions: Sequence[Question], now: datetime) -> Sequence[Answer]:
        """Answer these, in their order; raises what answering them raised."""
        mine = _Command[Question, Answer](questions, now)
        self.waiting.append(mine)
        with self._turn:
            while not mine.is_done:
                self._answer_batch(self._take())
        if mine.problem is not None:
            raise mine.problem
        return mine.answers

    def _take(self) -> "list[_Command[Question, Answer]]":
        taken = [self.waiting.popleft()]
        size = len(taken[0].questions)
        while self.waiting and size + len(self.waiting[0].questions) <= self._most:
            taken.append(self.waiting.popleft())
            size += len(taken[-1].questions)
        return taken

    def _answer_batch(self, batch: "Sequence[_Command[Question, Answer]]") -> None:
        """Where the store is away all fail; a command that cannot be answered takes nobody with it."""
        questions = [question for command in batch for question in command.questions]
        try:
            answers = iter(self._answer(questions, max(command.now for command in batch)))
        except Exception as problem:  # noqa: BLE001 (raised again where it was asked)
            if len(batch) > 1 and not isinstance(problem, PersistenceError):
                for command in batch:
                    self._answer_batch([command])
                return
            for command in batch:
                command.fail(problem)
        else:
            for command in batch:
                command.finish([next(answers) for _ in command.questions])


class _Command[Question, Answer]:
    """What one caller asked, and what came of it."""

    def __init__(self, questions: Sequence[Question], now: datetime) -> None:
        self.questions = questions
        self.now = now
        self.answers: Sequence[Answer] = ()
        self.problem: Exception | None = None
        self.is_done = False

    def finish(self, answers: Sequence[Answer]) -> None:
        self.answers, self.is_done = answers, True

    def fail(self, problem: Exception) -> None:
        self.problem, self.is_done = problem, True
