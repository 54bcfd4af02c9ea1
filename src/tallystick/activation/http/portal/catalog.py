"""The catalog: kinds and products, and the form that loads a catalog file."""

from __future__ import annotations

from starlette.responses import Response

from tallystick.activation.core import catalog_file
from tallystick.activation.core.permissions import Permission
from tallystick.activation.http.portal.base import PageRequest, redirect
from tallystick.activation.services import catalog
from tallystick.errors import Error
from tallystick.protocol.problems import problem_document


async def catalog_page(page: PageRequest) -> Response:
    """Kinds and products; an administrator loads a catalog as in the file."""
    caller, office = page.who.caller, page.office
    document = None
    text = ""
    if page.request.method == "POST":
        form = await page.form()
        text = form.secret("catalog")
        try:
            caller.check(Permission.CATALOG)
            read = await page.do(catalog_file.parse_catalog, text.encode("utf-8", "replace"))
            await page.do(catalog.save_catalog, office, caller, read, version=form.text("version") or "none")
            return redirect("/catalog?said=saved")
        except Error as error:
            document = problem_document(error)
    return await page.show(
        "catalog.html",
        document=document,
        text=text,
        catalog=await page.do(catalog.load_catalog, office, caller),
    )
