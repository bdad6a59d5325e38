"""Kills runs at random moments, resumes them, and checks that nothing is lost and nothing is paid twice.

python -m tests.kill_and_resume --runs 300 --seed 1
"""
