import pytest
import regex

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


@pytest.mark.parametrize(
    ("script", "text", "terms"),
    [
        # Where scripts put spaces, the words are those of ICU's and Lucene's standard tokenizers; digits as DecimalDigitFilter folds them.
        ("Latin", "Wikipedia ist eine Enzyklopädie", "wikipedia ist eine enzyklopädie"),
        ("Greek", "λογισμικό wiki, κάτι", "λογισμικό wiki κάτι"),
        ("Cyrillic", "Свободная энциклопедия, 2001", "свободная энциклопедия 2001"),
        ("Armenian", "13 միլիոն հոդվածները", "13 միլիոն հոդվածները"),
        ("Hebrew", "שָׁלוֹם עולם", "שלום עולם"),
        ("Arabic", "رُوبرت موير (كتاب)", "روبرت مویر کتاب"),
        ("Persian", "در تاریخ ۲۵ دی ۱۳۷۹ می‌رود", "در تاریخ 25 دی 1379 می رود"),
        ("Devanagari", "हिन्दी क्‍ष २०७७", "हिन्दी क्ष 2077"),
        ("Bengali", "বিশ্বকোষ ২০০টিরও বেশী", "বিশ্বকোষ 200টিরও বেশী"),
        ("Tamil", "தமிழ் மொழி", "தமிழ் மொழி"),
        ("Malayalam", "മലയാളം എന്‍റെ", "മലയാളം എന്റെ"),
        ("Sinhala", "ශ්‍රී ලංකා", "ශ්රී ලංකා"),
        ("Ethiopic", "ዊኪፔድያ የባለ ቋንቋ", "ዊኪፔድያ የባለ ቋንቋ"),
        ("Tibetan", "བོད་ཡིག་མི་ཉམས", "བོད ཡིག མི ཉམས"),
        ("Hangul", "안녕하세요 한글입니다", "안녕하세요 한글입니다"),
        # Where they do not, bigrams as Lucene's CJKBigramFilter makes them, also of signs that several scripts share.
        ("Han and Latin", "蜜蜂GPS卫星x", "蜜蜂 gps 卫星 x"),
        ("Kana and Latin", "あいうえおab んcかきくけ こ", "あい いう うえ えお ab ん c かき きく くけ こ"),
        ("prolonged sound mark", "データベース", "デー ータ タベ ベー ース"),
        ("half-width forms", "ﾃﾞｰﾀﾍﾞｰｽ", "デー ータ タベ ベー ース"),
        ("full-width forms", "１２３４ Ｔｅｓｔ", "1234 test"),
        ("iteration marks", "人々のこゝろ", "人々 々の のこ こゝ ゝろ"),
        ("ideographic closing mark", "〆切", "〆切"),
        ("decomposed voicing", "か\u3099く", "がく"),
        ("foreign mark in Kana", "か\u0301きく", "か\u0301き きく"),
        ("variation selector", "葛\U000e0100城市", "葛城 城市"),
        ("middle dot", "メアリー・ポピンズ", "メア アリ リー ポピ ピン ンズ"),
        ("Thai", "แล้วเธอ ๑๒", "แล้ ล้ว วเ เธ ธอ 12"),
        ("Lao", "ພາສາລາວ", "ພາ າສ ສາ າລ ລາ າວ"),
        ("Khmer", "ផ្ទះនេះ", "ផ្ទះនេះ"),
        ("Myanmar", "သက်ဝင်", "သက် က်ဝ ဝင်"),
        ("Tai Tham", "ᨽᩣᩈᩣ", "ᨽᩣ ᩣᩈ ᩈᩣ"),
        # What cannot be seen does not part a word; a zero-width space does.
        ("soft hyphen", "Gesamt\u00adkonzept", "gesamtkonzept"),
        ("word joiner", "Gesamt\u2060konzept\ufeff", "gesamtkonzept"),
        ("marks of direction", "\u200fשלום\u200e abc\u202c", "שלום abc"),
        ("zero-width space", "ภา\u200bษา", "ภา ษา"),
        ("Turkish İ", "İstanbul", "istanbul"),
    ],
)
def test_terms_by_script(script: str, text: str, terms: str) -> None:
    assert words(text) == terms.split(" "), script


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("การที่ได้ต้องแสดงว่างานดี", "การ ที่ ได้ ต้อง แสดง ว่า งาน ดี"),
        ("ພາສາລາວ", "ພາສາ ລາວ"),
        ("ផ្ទះស្កឹមស្កៃបីបួនខ្នងនេះ", "ផ្ទះ ស្កឹមស្កៃ បី បួន ខ្នង នេះ"),
        ("သက်ဝင်လှုပ်ရှားစေပြီး", "သက်ဝင် လှုပ်ရှား စေ ပြီး"),
    ],
)
def test_bigrams_hold_those_of_every_word_that_a_dictionary_finds(text: str, segments: str) -> None:
    """The words are those that ICU's dictionaries find: a query of one of them shares its terms with the unsegmented text."""
    terms = words(text)
    for word in segments.split(" "):
        of_word = words(word)
        if len(of_word) > 1:
            assert any(terms[i : i + len(of_word)] == of_word for i in range(len(terms))), word
        elif len(regex.findall(r"\X", word)) > 1:
            assert of_word[0] in terms, word


def test_ascii_texts_take_a_short_way_to_the_same_terms() -> None:
    text = "The B-2 isn't under_scored, is it? 3.5\x00x\ty"
    assert words(text) == words(text + " é")[:-1]
