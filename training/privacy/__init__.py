"""Differential privacy for whole users: statistics with noise, and what may be made of them.

Only `contributions` sees events. It bounds what a user can change, and `release` adds noise once.
All else (`denoise`, `walks`) works on what was released, and on the public item table.
"""
