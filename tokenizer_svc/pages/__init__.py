"""Pages for people: a chat and the API's documentation. Static files, the same for everybody; no build step."""
