"""Files and folders outside the storage that stages read: their state is part of a stage's digest."""

from importlib import resources

from distill.formats.settings import ImportedExamples, SentenceTransformersExamples
from distill.models.locate import BUNDLED_STUDENT, BUNDLED_TEACHER, locate
from distill.sources.settings import FileSource, IrDatasetsSource, Source


def source_files(source: Source) -> tuple[str, ...]:
    """Return the files whose content decides a source; a text of ir_datasets is known by its id."""
    if source.type == "bundled":
        return (str(resources.files("distill.sources") / "corpus" / "corpus.jsonl"),)
    if isinstance(source, FileSource):
        from cluster.locations import find_all

        return tuple(
            location.name
            for path in (*source.passages, *source.queries, *source.qrels)
            for location in find_all(path, source.root)
        )
    if isinstance(source, IrDatasetsSource):
        from distill.formats.text import FORMATS

        texts = [text for splits in source.translated_queries.values() for text in splits.values()]
        return tuple(text for text in texts if text.endswith(FORMATS))
    return (source.path,) if source.type == "beir" else ()


def model_files(model: str | None) -> tuple[str, ...]:
    """Return the folder of a local model; a model on the hub is known by its name and revision."""
    if not model:
        return ()
    folder = locate(model)
    return (folder,) if model in {BUNDLED_STUDENT, BUNDLED_TEACHER} or folder.startswith("/") else ()


def imported_files(imported: ImportedExamples) -> tuple[str, ...]:
    """Return the files of other tools' examples."""
    if isinstance(imported, SentenceTransformersExamples):
        return imported.files
    translations = (file for files in imported.translations.values() for file in files)
    return (*imported.train, *imported.queries, *imported.documents, *translations)
