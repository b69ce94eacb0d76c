"""stub"""


class Builds:
    def __init__(self, folder):
        self.folder = folder
