from tests.made_up_results import make_evidence, make_results

__all__ = ["make_evidence", "make_results"]
