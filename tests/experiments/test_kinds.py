"""What an experiment is: a field of its file, and the folder that it lies in says the same."""

from dfa_bench.experiments.schema import load_experiments
from dfa_bench.settings.resources import resource_folder

FOLDERS = {"paper": "", "study": "studies", "search": "search", "first": "first"}


def test_an_experiment_lies_in_the_folder_of_its_kind():
    for name, experiment in load_experiments(resource_folder("experiments")).items():
        assert name.rpartition("/")[0] == FOLDERS[experiment.kind], name
