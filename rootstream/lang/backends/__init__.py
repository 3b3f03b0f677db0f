"""Who answers the language's calls: our own server, or any that speaks OpenAI's API."""
