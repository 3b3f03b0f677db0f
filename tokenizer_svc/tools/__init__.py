"""Tools of a chat: what clients offer, how models are told of them, and the calls that they write."""
