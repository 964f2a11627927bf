from hw_models.mapping.kernel import compiled


def test_what_is_kept_on_disk_is_told_apart_by_the_sources_of_all_that_it_calls(tmp_path, monkeypatch):
    source = tmp_path / "loops.py"
    source.write_text("a = 1\n")
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    before = compiled._sources()
    source.write_text("a = 2\n")
    assert compiled._sources() != before
    # Numba takes the values of a function's closure into its key.
    assert [cell.cell_contents for cell in compiled._kept(before).py_func.__closure__] == [before]
