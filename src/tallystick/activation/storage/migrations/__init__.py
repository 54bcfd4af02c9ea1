"""The history of the schema. A migration is never edited once it was released."""
