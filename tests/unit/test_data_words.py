"""A row a word: where each stands in its sentence, what its labels are, and what CoNLL-U has besides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from leadline.data import Dataset, load_dataset
from leadline.data.words import join_forms, locate_forms
from leadline.errors import DataError

EWT = Path(__file__).parents[3] / "shared" / "data" / "ud_ewt"

# A multiword token, an empty node, a word that is an underscore, a gap of two spaces, and a sentence without its text.
CONLLU = """\
# newdoc id = first
# sent_id = s1
# text = Don't go  to the_ end.
1-2\tDon't\t_\t_\t_\t_\t_\t_\t_\t_
1\tDo\tdo\tAUX\tVB\tMood=Imp\t3\taux\t_\t_
2\tn't\tnot\tPART\tRB\t_\t3\tadvmod\t_\t_
3\tgo\tgo\tVERB\tVB\tMood=Imp|VerbForm=Fin\t0\troot\t_\t_
3.1\tnow\tnow\tADV\t_\t_\t_\t_\t3:advmod\t_
4\tto\tto\tADP\tIN\t_\t7\tcase\t_\t_
5\tthe\tthe\tDET\tDT\t_\t7\tdet\t_\tSpaceAfter=No
6\t_\t_\tPUNCT\tNFP\t_\t7\tpunct\t_\t_
7\tend\tend\tNOUN\tNN\tNumber=Sing\t3\tobl\t_\tGloss=e|SpaceAfter=No
8\t.\t.\tPUNCT\t.\t_\t3\tpunct\t_\t_

# newdoc id = second
# a remark without an equals sign
1\tHm\thm\tINTJ\t_\t_\t0\troot\t_\tGloss=er|SpaceAfter=No
2\t,\t,\tPUNCT\t_\t_\t1\tpunct\t_\t_
3-4\tzum\t_\t_\t_\t_\t_\t_\t_\tSpaceAfter=No
3\tzu\tzu\tADP\t_\t_\t5\tcase\t_\t_
4\tdem\tder\tDET\t_\t_\t5\tdet\t_\t_
5\tEnde\tEnde\tNOUN\t_\t_\t1\tdep\t_\t_

"""


@pytest.fixture
def conllu(tmp_path):
    path = tmp_path / "small.conllu"
    path.write_text(CONLLU, encoding="utf-8")
    return path


def spelled(data):
    return [text[start:end] for text, (start, end) in zip(data.inputs, data.span("word").tolist(), strict=True)]


def test_conllu_has_a_row_a_syntactic_word(conllu):
    data = load_dataset(conllu, positive="NOUN")
    assert data.n == 13
    assert (data.name, data.source, data.span_column, data.modality) == ("small", str(conllu), "word", "text")
    assert spelled(data)[:8] == ["Don't", "Don't", "go", "to", "the", "_", "end", "."]
    assert spelled(data)[8:] == ["Hm", ",", "zum", "zum", "Ende"]
    assert data.inputs[8] == "Hm, zumEnde"
    frame = data.frame
    assert frame.columns == [
        "text",
        "word",
        "form",
        "sentence",
        "position",
        "lemma",
        "upos",
        "xpos",
        "feats",
        "head",
        "deprel",
        "document",
        "sent_id",
    ]
    assert frame["form"].to_list()[:3] == ["Do", "n't", "go"]
    assert frame["sentence"].to_list() == [1] * 8 + [2] * 5
    assert frame["position"].to_list() == [*range(1, 9), *range(1, 6)]
    assert frame["head"].to_list()[:8] == [3, 3, 0, 7, 7, 7, 3, 3]
    assert frame["lemma"].to_list()[4:6] == ["the", "_"]
    assert frame["xpos"].to_list()[7:9] == [".", None]
    assert frame["feats"].to_list()[:3] == ["Mood=Imp", None, "Mood=Imp|VerbForm=Fin"]
    assert frame["sent_id"].to_list()[7:9] == ["s1", None]
    assert data.group_column == "document"
    assert data.groups[[0, 12]].tolist() == ["first", "second"]
    target = data.target("upos")
    assert (target.negative, target.positive) == ("not NOUN", "NOUN")
    assert np.flatnonzero(target.values[:, 0]).tolist() == [6, 12]
    assert repr(data).startswith("Dataset('small': 13 words;")


def test_words_of_a_sentence_share_one_text(conllu, tmp_path):
    data = load_dataset(conllu, target=())
    assert len({id(x) for x in data.inputs}) == 2
    data.write(tmp_path / "made")
    back = Dataset.read(tmp_path / "made")
    assert len({id(x) for x in back.inputs}) == 2
    assert (back.span_column, back.fingerprint) == ("word", data.fingerprint)
    assert back.frame.equals(data.frame)


def test_which_words_they_are_is_part_of_the_fingerprint(conllu):
    data = load_dataset(conllu, target="head", kind="continuous")
    assert data.targets[0].kind == "continuous"
    words = data.frame["word"].to_list()
    words[2] = [6, 7]
    import dataclasses

    import polars as pl

    moved = dataclasses.replace(data, frame=data.frame.with_columns(pl.Series("word", words)))
    assert moved.fingerprint != data.fingerprint
    assert dataclasses.replace(data, span_column=None).fingerprint not in (data.fingerprint, moved.fingerprint)


def test_the_target_is_upos_by_default_with_all_its_classes(conllu):
    data = load_dataset(conllu)
    target = data.target("upos")
    assert target.kind == "multiclass"
    assert target.classes == ("ADP", "AUX", "DET", "INTJ", "NOUN", "PART", "PUNCT", "VERB")
    assert [target.classes[int(c)] for c in target.values[:, 0]] == data.frame["upos"].to_list()
    assert target.counts["PUNCT"] == 3
    (note,) = data.findings
    assert note.code == "many_classes"
    assert "8 classes and is read as multiclass; positive='ADP' sets one against the rest" in note.message
    with pytest.raises(DataError, match="Did you mean 'NOUN'"):
        load_dataset(conllu, positive="NUON")
    assert load_dataset(conllu, target="deprel", positive="det").targets[0].values.sum() == 2


def test_the_type_of_a_word_is_its_form_in_lower_case(conllu, tmp_path):
    data = load_dataset(conllu)
    assert data.types.tolist()[:4] == ["do", "n't", "go", "to"]
    assert data.types[12] == "ende"
    assert (data.type_column, data.types.dtype) == (None, object)
    assert data.select([12, 0]).types.tolist() == ["ende", "do"]
    data.write(tmp_path / "made")
    assert Dataset.read(tmp_path / "made").types.tolist() == data.types.tolist()
    lemmas = load_dataset(conllu, type="lemma")
    assert (lemmas.types[1], lemmas.type_column) == ("not", "lemma")
    # Types that were chosen are a part of what the data is; those that follow from the words are not.
    assert lemmas.fingerprint != data.fingerprint
    lemmas.write(tmp_path / "lemmas")
    assert Dataset.read(tmp_path / "lemmas").types.tolist() == lemmas.types.tolist()


def test_groups_are_sentences_where_not_every_word_has_a_document(tmp_path, conllu):
    path = tmp_path / "x.conllu"
    path.write_text(CONLLU.replace("# newdoc id = first\n", ""), encoding="utf-8")
    assert load_dataset(path, target=()).group_column == "sentence"
    path.write_text(CONLLU.replace(" id = first", "").replace(" id = second", ""), encoding="utf-8")
    assert set(load_dataset(path, target=()).groups) == {"document 1", "document 2"}
    assert load_dataset(conllu, target=(), group="sentence").groups.tolist() == ["1"] * 8 + ["2"] * 5


def test_line_ends_of_windows_and_a_missing_last_one(tmp_path, conllu):
    path = tmp_path / "small.conllu"
    whole = load_dataset(conllu, target=())
    path.write_bytes(CONLLU.rstrip("\n").replace("\n", "\r\n").encode("utf-8"))
    assert load_dataset(path, target=()).fingerprint == whole.fingerprint


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("1\tHm\thm", "1\tHm", "line 17 of '.*' has 9 columns; expected the 10"),
        ("4\tto\tto", "5\tto\tto", "line 9 of '.*' has the ID '5'; expected 4"),
        ("1-2\tDon't", "2-1\tDon't", "line 4 of '.*' has the ID '2-1'; expected 1, a range"),
        ("3\tgo", "3\t ", "line 7 of '.*' has no form"),
        ("# text = Don't go", "# text = Don't wanna go", r"line 7 of '.*': 'go' does not come next"),
        ("\t0\troot\t_\tGloss=er", "\t9\troot\t_\tGloss=er", "sentence at line 15 of '.*' has the head '9'"),
        ("3-4\tzum", "3-9\tzum", r"sentence at line 15 of '.*' ends at word 5, but has a multiword token up to 9"),
    ],
)
def test_broken_lines_are_named(tmp_path, old, new, message):
    assert old in CONLLU
    path = tmp_path / "x.conllu"
    path.write_text(CONLLU.replace(old, new), encoding="utf-8")
    with pytest.raises(DataError, match=message):
        load_dataset(path, target=())


def test_files_without_words(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        Dataset.from_conllu(tmp_path / "none.conllu")
    (tmp_path / "x.conllu").write_text("# newdoc id = a\n\n", encoding="utf-8")
    with pytest.raises(DataError, match="holds no words"):
        Dataset.from_conllu(tmp_path / "x.conllu")


@pytest.mark.skipif(not EWT.is_dir(), reason="the shared treebank is not here")
def test_a_real_treebank_is_located_to_the_last_word():
    data = load_dataset(EWT / "en_ewt-ud-dev.conllu", positive="NOUN")
    assert (data.n, len(set(data.frame["sentence"])), len(set(data.groups))) == (25_147, 2_001, 318)
    assert data.target("upos").values.sum() == 4_210
    different = [(f, s) for f, s in zip(data.frame["form"], spelled(data), strict=True) if f != s]
    # What differs from the text is a part of a written word.
    assert len(different) == 719
    assert different[:2] == [("did", "didn't"), ("n't", "didn't")]
    codes = [f.code for f in data.check()]
    assert codes == ["duplicate_rows", "conflicting_duplicates", "length"]


@pytest.mark.skipif(not EWT.is_dir(), reason="the shared treebank is not here")
def test_all_tags_of_a_real_treebank_are_classes():
    data = load_dataset(EWT / "en_ewt-ud-dev.conllu")
    target = data.target("upos")
    assert (target.kind, len(target.classes), target.counts["NOUN"]) == ("multiclass", 17, 4_210)
    assert sum(target.counts.values()) == data.n
    found = {f.code: f.message for f in data.check()}
    assert list(found) == ["duplicate_rows", "conflicting_duplicates", "length", "rare_class"]
    assert "the shortest are 'PUNCT' with a median of 1" in found["length"]


ROWS = [
    {
        "words": ["Dogs", "bark", "."],
        "text": "Dogs bark.",
        "noun": [True, False, False],
        "topic": "pets",
        "age": [1, 2, 3],
    },
    {"words": ["Cats", "sleep"], "noun": [True, False], "topic": "pets", "age": [4, 5]},
    {"words": ["I", "see"], "noun": [False, False], "topic": None, "age": [6, None]},
]


def test_from_words_locates_words_or_joins_them():
    data = Dataset.from_words(ROWS, labels=["noun", "age"])
    assert data.inputs == ("Dogs bark.",) * 3 + ("Cats sleep",) * 2 + ("I see",) * 2
    assert spelled(data) == ["Dogs", "bark", ".", "Cats", "sleep", "I", "see"]
    assert [t.name for t in data.targets] == ["noun", "age"]
    assert data.frame.columns == ["text", "word", "form", "sentence", "position", "noun", "age", "topic"]
    assert data.target("age").values[:6, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert np.isnan(data.target("age").values[6, 0])
    assert data.groups.tolist() == ["1", "1", "1", "2", "2", "3", "3"]
    assert data.frame["topic"].to_list()[4:6] == ["pets", None]
    assert len({id(x) for x in data.inputs}) == 3


def test_from_words_takes_labels_apart_and_any_options():
    tags = {"tag": [["N", "V", "P"], ["N", "V"], np.array(["P", "V"])]}
    rows = [{"tokens": r["words"], "document": f"d{i}"} for i, r in enumerate(ROWS)]
    data = Dataset.from_words(rows, words="tokens", labels=tags, positive="V", name="mine")
    assert (data.name, data.group_column) == ("mine", "document")
    assert data.targets[0].values[:, 0].tolist() == [0, 1, 0, 0, 1, 0, 1]
    none = Dataset.from_words(rows, words="tokens", labels=tags, target=())
    assert none.targets == ()
    assert none.frame["tag"].to_list() == ["N", "V", "P", "N", "V", "P", "V"]
    assert Dataset.from_words(rows, words="tokens").targets == ()
    drawn = Dataset.from_words(rows, words="tokens", labels=tags, positive="V", sample=3, seed=1)
    assert drawn.n == 3
    assert spelled(drawn) == [none.frame["form"][int(i)] for i in drawn.source_rows]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"noun": [True]}, {}, "row 2 has 2 words and 1 values of 'noun'; expected a list with one a word"),
        ({"noun": "NV"}, {}, "row 2 has 2 words and 2 values of 'noun'; expected a list"),
        ({"noun": 3}, {}, "row 2 has 2 words and 3 of 'noun'"),
        ({"words": []}, {}, "'words' of row 2 is '\\[\\]'; expected a list of at least one word"),
        ({"words": "Cats sleep"}, {}, "'words' of row 2 is 'Cats sleep'; expected a list"),
        ({"words": ["Cats", " "]}, {}, "'words' of row 2"),
        ({"text": "Cats do sleep"}, {}, "word 2 of row 2, 'sleep', does not come next in its text"),
        ({"form": "x"}, {}, "row 2 has a value 'form', the name of a column of words"),
        ({}, {"labels": "nuon"}, "row 1 has no labels 'nuon'.*Did you mean 'noun'"),
        ({}, {"words": "wrods"}, "row 1 has no 'wrods'.*Did you mean 'words'"),
        ({}, {"labels": {"a": [[1, 2, 3]]}}, "the labels 'a' are of 1 sentences; expected 3"),
        ({}, {"labels": {"text": [[1] * 3, [1] * 2, [1] * 2]}}, "a label is called 'text'"),
        ({}, {"target": "nuon"}, "no column 'nuon' for the target.*Did you mean 'noun'"),
        ({}, {"target": "word"}, "names a column twice, or a column of inputs"),
    ],
)
def test_rows_that_are_no_words_are_named(change, options, message):
    rows = [ROWS[0], {**ROWS[1], **change}, ROWS[2]]
    with pytest.raises(DataError, match=message):
        Dataset.from_words(rows, **{"labels": "noun", **options})


def test_no_rows_are_refused():
    with pytest.raises(DataError, match="no rows were given"):
        Dataset.from_words([], labels="noun")
    with pytest.raises(DataError, match="row 1 is of type list"):
        Dataset.from_words([["a", "b"]], labels="noun")


def test_the_check_compares_words_and_not_their_sentences():
    rows = [{"words": [f"Ab{i}", f"xy{i}"], "noun": [True, False]} for i in range(20)]
    assert Dataset.from_words(rows, labels="noun").check() == ()
    again = [*rows, {"words": ["Ab3", "xy3"], "noun": [True, True]}]
    found = {f.code: f.rows for f in Dataset.from_words(again, labels="noun").check()}
    assert found == {"duplicate_rows": (6, 40), "conflicting_duplicates": (7, 41)}
    long = [{"words": ["Abc" * (i % 3 + 2), f"xy{i}"], "noun": [True, False]} for i in range(20)]
    finding = next(f for f in Dataset.from_words(long, labels="noun").check() if f.code == "length")
    assert "the length of the word alone predicts 'noun'" in finding.message


def test_forms_are_joined_and_located():
    assert join_forms(["a", "b", "c"]) == "a b c"
    assert join_forms(["a", "b", "c"], [False, True, True]) == "ab c"
    assert join_forms([]) == ""
    assert locate_forms("ab  c", ["a", "b", "c"]) == [(0, 1), (1, 2), (4, 5)]
    assert locate_forms("New York City", ["New York", "City"]) == [(0, 8), (9, 13)]
    assert locate_forms("a x b", ["a", "b"]) == 1
    assert locate_forms("a", ["a", "b"]) == 1
    assert locate_forms("a", [""]) == 0
