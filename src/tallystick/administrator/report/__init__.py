"""The site report: what a technician hands over, as a page, CSV and PDF."""
