import threading

import pytest

pytest.importorskip('matplotlib')
from metricconv_mm.explore.turns import Superseded, Turns


def test_of_those_who_wait_the_newest_of_each_asker_is_served():
    turns, served, dropped, threads = Turns(), [], [], []

    def ask(who, name, ticket):
        try:
            with turns.turn(who, ticket):
                served.append(name)
        except Superseded:
            dropped.append(name)

    with turns.turn('mine', turns.ask('mine')):
        for who, name in (('mine', 'first'), ('mine', 'second'), ('yours', 'other'), ('mine', 'third')):
            threads.append(threading.Thread(target=ask, args=(who, name, turns.ask(who))))
            threads[-1].start()
        # they do not wait for their turn to learn that nobody wants them
        for thread in threads[:2]:
            thread.join(60)
        assert sorted(dropped) == ['first', 'second'] and not served
    for thread in threads:
        thread.join(60)
    assert sorted(served) == ['other', 'third']


def test_what_is_asked_for_while_another_rests_supersedes_it():
    turns = Turns()
    ticket = turns.ask('me')
    threading.Timer(0.05, turns.ask, ['me']).start()
    with pytest.raises(Superseded), turns.turn('me', ticket, patience=60):
        pytest.fail('the older one was computed')


def test_an_error_ends_a_turn():
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.turn('me', turns.ask('me')):
        raise ZeroDivisionError
    with turns.turn('you', turns.ask('you')):
        pass
