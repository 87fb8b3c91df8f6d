from distill.text import passage_text, words


def test_words_fold_case_and_split_at_punctuation() -> None:
    assert words("The E-Mail, über 3.5 Straßen!") == ["the", "e", "mail", "über", "3", "5", "strassen"]


def test_unspaced_scripts_give_bigrams() -> None:
    assert words("蜜蜂的舞") == ["蜜蜂", "蜂的", "的舞"]
    assert words("我") == ["我"]
    assert words("GPS卫星x") == ["gps", "卫星", "x"]


def test_thai_marks_stay_with_their_letters() -> None:
    assert words("น้ำ") == ["น้ํา"] or words("น้ำ") == ["น้ำ"]


def test_hindi_vowel_signs_do_not_break_words() -> None:
    assert words("हिन्दी भाषा") == ["हिन्दी", "भाषा"]


def test_persian_and_arabic_spellings_meet() -> None:
    assert words("كتابي می‌رود") == words("کتابی می رود") == ["کتابی", "می", "رود"]


def test_passage_text_joins_title_and_body() -> None:
    assert passage_text("Title", "body") == "Title body"
    assert passage_text("", "body") == "body"
