"""The peers' workers, in environments of their own with packages that the project lacks: `bench.environments`.

Nothing here imports Assent: what a peer's program shares with the other sides is `bench.task`, and how it is served.
"""
