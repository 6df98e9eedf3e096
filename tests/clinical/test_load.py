"""A user's module: loaded fresh, collected, and without harm when it is broken."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bonfire.clinical.load import ModuleError, ModuleLoader
from bonfire.clinical.queries import AppQuery, FunctionBody
from bonfire.clinical.registry import Registry

CLINIC = """
from bonfire.clinical import QueryContext, Registry
from {helper} import GREETING

clinic = Registry()

@clinic.query("greetings.get", depends=[])
async def greet(ctx: QueryContext) -> str:
    return GREETING
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    path, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


async def greeting(registry: Registry) -> object:
    query = registry.find_query("greetings.get")
    assert isinstance(query, AppQuery)
    assert isinstance(query.body, FunctionBody)
    return await query.body.function(None)


async def test_a_module_is_read_again_with_what_it_imports(folder: Path) -> None:
    (folder / "one_helper.py").write_text("GREETING = 'one'\n")
    (folder / "one_clinic.py").write_text(CLINIC.format(helper="one_helper"))
    loader = ModuleLoader(folder / "one_clinic.py")
    first = loader.load(Registry())
    (folder / "one_helper.py").write_text("GREETING = 'two'\n")
    second = loader.load(Registry())
    assert (await greeting(first), await greeting(second)) == ("one", "two")


async def test_a_broken_save_leaves_the_functions_that_were_loaded_working(folder: Path) -> None:
    (folder / "two_helper.py").write_text("GREETING = 'one'\n")
    module = folder / "two_clinic.py"
    module.write_text(CLINIC.format(helper="two_helper"))
    loader = ModuleLoader(module)
    first = loader.load(Registry())
    module.write_text("import two_helper\nraise RuntimeError('half-typed')\n")
    with pytest.raises(ModuleError, match=r"^two_clinic\.py:2: RuntimeError: half-typed$"):
        loader.load(Registry())
    assert await greeting(first) == "one"
    module.write_text(CLINIC.format(helper="two_helper"))
    assert await greeting(loader.load(Registry())) == "one"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def (:\n", r"three_clinic\.py:1: invalid syntax"),
        ("import nowhere_at_all\n", r"three_clinic\.py:1: ModuleNotFoundError"),
        ("x = 1\n", "holds no registry"),
        ("import sys\n\nsys.exit(3)\n", r"three_clinic\.py:3: SystemExit"),
        (
            "from bonfire.clinical import Registry\nclinic = Registry()\n\n"
            "@clinic.mutation('tasks.add')\nasync def add(ctx, title: str): ...\n",
            r"three_clinic\.py:4: tasks\.add: declare the type of the result",
        ),
    ],
)
def test_an_error_names_file_and_line(folder: Path, source: str, message: str) -> None:
    (folder / "three_clinic.py").write_text(source)
    with pytest.raises(ModuleError, match=message):
        ModuleLoader(folder / "three_clinic.py").load(Registry())


def test_a_name_that_is_taken_is_refused(folder: Path) -> None:
    (folder / "four_helper.py").write_text("GREETING = 'one'\n")
    (folder / "four_clinic.py").write_text(CLINIC.format(helper="four_helper"))
    base = ModuleLoader(folder / "four_clinic.py").load(Registry())
    (folder / "five_clinic.py").write_text(CLINIC.format(helper="four_helper"))
    with pytest.raises(ModuleError, match=r"five_clinic\.py: greetings\.get: there is a query of that name"):
        ModuleLoader(folder / "five_clinic.py").load(base)


@pytest.mark.parametrize(("name", "message"), [("json.py", "exists already"), ("my-clinic.py", "Python name")])
def test_a_file_name_that_is_no_module_of_ones_own_is_refused(folder: Path, name: str, message: str) -> None:
    (folder / name).write_text("")
    with pytest.raises(ModuleError, match=message):
        ModuleLoader(folder / name).load(Registry())


def test_a_file_that_is_not_there_is_said_so(folder: Path) -> None:
    with pytest.raises(ModuleError, match="can't be read: No such file"):
        ModuleLoader(folder / "nowhere.py").load(Registry())
