"""From a project's directory to a bundle: read its wrangler file, follow imports, pack what is needed.

A script in one JavaScript file is deployed byte for byte as written, so that line numbers in errors are the
author's. Anything else (TypeScript, imports of own files or of npm packages) goes through esbuild as one
module, with wasm, binary and text files beside it. The bundler resolves; it does not judge: a plain script
with a syntax error is packed as it is, for the runtime to refuse in its own words.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path
from typing import Final

import msgspec

from atoll.config.spec import BundleManifest
from atoll.config.wrangler import FILE_NAMES, Project, parse
from atoll.errors import AtollError
from atoll.functions.workers.bundle import pack

BUILD_TIMEOUT_S: Final = 60.0
MODULE_NAME: Final = "worker.js"

_FLAGS: Final = (
    "--bundle",
    "--format=esm",
    "--platform=neutral",
    "--target=es2024",
    "--main-fields=browser,module,main",
    "--conditions=workerd,worker,browser",
    "--external:cloudflare:*",
    "--external:node:*",
    "--loader:.wasm=copy",
    "--loader:.bin=copy",
    "--loader:.txt=text",
    "--loader:.html=text",
    "--loader:.sql=text",
    "--asset-names=[name]-[hash]",
    "--charset=utf8",
    "--color=false",
    "--log-level=error",
    "--log-limit=1",
)
_FIRST_ERROR: Final = re.compile(r"\[ERROR\] (?P<message>.+)\n\n\s+(?P<file>[^\n:]+):(?P<line>\d+):\d+:")
_MODULE_SYNTAX: Final = re.compile(r"^\s*(?:import\b(?!\s*\()|export\b)", re.MULTILINE)
_PLAIN: Final = (".js", ".mjs")


class _Output(msgspec.Struct):
    exports: list[str] = []
    entry: str = msgspec.field(name="entryPoint", default="")


class _Metafile(msgspec.Struct):
    """What esbuild says of a build (its `--metafile`), as far as it is asked here."""

    inputs: dict[str, msgspec.Raw]
    outputs: dict[str, _Output]

    @property
    def exports(self) -> bool:
        """Whether the script exports anything: that makes it a module, as wrangler sees it."""
        return any(output.exports for output in self.outputs.values() if output.entry)


def load_project(directory: Path) -> Project:
    """The project in `directory`.

    Raises:
        AtollError: there is no wrangler file, or it has a mistake.
    """
    for name in FILE_NAMES:
        path = directory / name
        if path.is_file():
            return parse(name, _read_text(path))
    raise AtollError(
        f"no {' or '.join(FILE_NAMES[:2])} in {directory}", hint="a function's directory has one"
    )


async def build(directory: Path, esbuild: Path) -> tuple[Project, bytes]:
    """The project in `directory` and its packed bundle.

    Raises:
        AtollError: a mistake in the project, with file and line, or a bundle that is too large.
    """
    project = load_project(directory)
    script = directory / project.main
    if not script.is_file():
        raise AtollError("the script does not exist", hint=f"main says {project.main}", where=project.file)
    modules, files = await _files(directory, project, esbuild)
    (main, *_) = files
    manifest = BundleManifest(
        name=project.name,
        main=main,
        syntax="modules" if modules else "service-worker",
        compatibility_date=project.compatibility_date,
        compatibility_flags=project.compatibility_flags,
        vars=project.vars,
        routes=project.routes,
    )
    return project, pack(manifest, files)


async def _files(directory: Path, project: Project, esbuild: Path) -> tuple[bool, dict[str, bytes]]:
    """Whether the script is a module, and the bundle's files, its main first."""
    script = directory / project.main
    plain = script.suffix in _PLAIN
    with tempfile.TemporaryDirectory(prefix="atoll-build-") as scratch:
        error = await _run_esbuild(directory, project.main, esbuild, Path(scratch))
        if error is not None:
            if plain and error.where.rpartition(":")[0] == project.main and _is_syntax_error(error):
                return bool(_MODULE_SYNTAX.search(_read_text(script))), {script.name: script.read_bytes()}
            raise error
        found = msgspec.json.decode((Path(scratch) / "meta.json").read_bytes(), type=_Metafile)
        if plain and len(found.inputs) == 1:
            return found.exports, {script.name: script.read_bytes()}
        return found.exports, _outputs(Path(scratch) / "out")


def _outputs(out: Path) -> dict[str, bytes]:
    others = sorted(path.name for path in out.iterdir() if path.name != MODULE_NAME)
    return {name: (out / name).read_bytes() for name in (MODULE_NAME, *others)}


async def _run_esbuild(directory: Path, main: str, esbuild: Path, scratch: Path) -> AtollError | None:
    """Its first error, or None."""
    process = await asyncio.create_subprocess_exec(
        str(esbuild),
        f"./{main}",
        *_FLAGS,
        f"--outfile={scratch / 'out' / MODULE_NAME}",
        f"--metafile={scratch / 'meta.json'}",
        cwd=directory,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        _, errors = await asyncio.wait_for(process.communicate(), BUILD_TIMEOUT_S)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise AtollError(f"esbuild took longer than {BUILD_TIMEOUT_S:g} s", where=main) from None
    return _esbuild_error(errors.decode(errors="replace")) if process.returncode else None


def _esbuild_error(text: str) -> AtollError:
    found = _FIRST_ERROR.search(text)
    if found is None:
        return AtollError(f"esbuild: {text.strip() or 'failed without a word'}")
    return AtollError(found["message"], hint="from esbuild", where=f"{found['file']}:{found['line']}")


def _is_syntax_error(error: AtollError) -> bool:
    """esbuild calls what it cannot find `Could not resolve`; all else it says of a script is about syntax."""
    return not error.message.startswith("Could not resolve")


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise AtollError("not UTF-8", where=path.name) from error
