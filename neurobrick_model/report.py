"""stub for now"""


def render(*a):
    return ""
