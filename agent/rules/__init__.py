"""The rule language: from text to compiled predicates; knows no kernel."""
