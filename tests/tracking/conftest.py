from tests.small_studies import (
    skip_figures,
    small_study,
    small_toml,
    spectrum_study,
    with_figures,
)

__all__ = ["skip_figures", "small_study", "small_toml", "spectrum_study", "with_figures"]
