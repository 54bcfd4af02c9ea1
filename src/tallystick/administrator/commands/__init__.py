"""Commands of Device Administrator that are about many field servers at once, or about its pages."""
