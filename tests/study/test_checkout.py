import os
import subprocess

import pytest

from lowbit_sim.study import checkout


def git(folder, *arguments):
    """Run git on a folder's own repository, whatever a hook or the user's settings say."""
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    environment["GIT_CONFIG_GLOBAL"] = os.devnull
    command = ["git", "-C", str(folder), *identity, *arguments]
    subprocess.run(command, check=True, capture_output=True, env=environment)


@pytest.fixture
def repository(tmp_path):
    package = tmp_path / "package"
    package.mkdir()
    (package / "module.py").write_text("x = 1")
    git(tmp_path, "init")
    return package


def test_a_commit_and_whether_the_code_differs_from_it(repository):
    git(repository, "add", ".")
    git(repository, "commit", "-m", "first")
    state = checkout.checkout_state(repository / "module.py", [repository])
    assert len(state["commit"]) == 40
    assert int(state["commit"], 16)
    assert state["uncommitted_changes"] is False
    (repository.parent / "notes.txt").write_text("beside the code")
    assert checkout.checkout_state(repository / "module.py", [repository]) == state
    (repository / "module.py").write_text("x = 2")
    assert checkout.checkout_state(repository / "module.py", [repository]) == {
        **state,
        "uncommitted_changes": True,
    }


def test_a_hooks_variables_do_not_lead_to_another_repository(repository, tmp_path, monkeypatch):
    git(repository, "add", ".")
    git(repository, "commit", "-m", "first")
    state = checkout.checkout_state(repository / "module.py", [repository])
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "absent"))
    assert checkout.checkout_state(repository / "module.py", [repository]) == state


NOTHING = {"commit": None, "uncommitted_changes": None}


def test_outside_a_checkout_there_is_nothing_to_say(tmp_path):
    (tmp_path / "module.py").write_text("x = 1")
    assert checkout.checkout_state(tmp_path / "module.py", [tmp_path]) == NOTHING


def test_a_package_installed_inside_another_project_is_not_that_projects_commit(repository):
    git(repository, "commit", "--allow-empty", "-m", "of the other project")
    assert checkout.checkout_state(repository / "module.py", [repository]) == NOTHING


def test_without_git_there_is_nothing_to_say(repository, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert checkout.checkout_state(repository / "module.py", [repository]) == NOTHING
