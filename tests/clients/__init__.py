"""Tests with real packages as clients, in environments of their own: nothing of rootstream can be imported here."""
