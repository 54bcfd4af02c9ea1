"""The catalog: kinds and products, and the form that loads a catalog file."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from tallystick.activation.core import catalog_file
from tallystick.activation.core.permissions import Permission
from tallystick.activation.http.portal.base import PageRequest, redirect
from tallystick.activation.services import catalog
from tallystick.errors import Error
from tallystick.protocol.problems import problem_document
from tallystick.sentences import _

ACCOUNTS_SHOWN: Final = 10
_TERMS: Final = {
    "name": _("name"),
    "kinds": _("kinds"),
    "features": _("what one unit carries"),
    "returnable": _("can be returned"),
    "one_carry": _("return in one carry"),
    "engineering": _("for engineering"),
}


async def catalog_page(page: PageRequest) -> Response:
    """Kinds and products; an administrator loads a catalog as in the file, once what it changes was shown."""
    caller, office = page.who.caller, page.office
    document = foreseen = None
    text = ""
    if page.request.method == "POST":
        form = await page.form()
        text = form.secret("catalog")
        try:
            caller.check(Permission.CATALOG)
            read = await page.do(catalog_file.parse_catalog, text.encode("utf-8", "replace"))
            foreseen = await page.do(catalog.foresee_catalog, office, caller, read)
            if form.text("shown") == foreseen.shown:  # this very change was shown
                await page.do(catalog.save_catalog, office, caller, read, version=foreseen.version)
                return redirect("/catalog?said=saved")
        except Error as error:
            document = problem_document(error)
    return await page.show(
        "catalog.html",
        document=document,
        foreseen=foreseen,
        terms=_TERMS,
        accounts_shown=ACCOUNTS_SHOWN,
        value_text=catalog_file.value_text,
        text=text,
        catalog=await page.do(catalog.load_catalog, office, caller),
    )
