"""What the papers print of themselves and of others, on their own machines: to stand beside what is measured here."""

from typing import NamedTuple


class Complexity(NamedTuple):
    """A row of LNS-Net's Table 1; its 'Flops' are multiplications with an addition, in thousand millions."""

    ms: float
    asa: float
    gmac: float | None = None
    thousand_weights: float | None = None


class Efficiency(NamedTuple):
    """A row of SEN's Table I."""

    ms: float
    f1: float


# Zhu et al., CVPR 2021, Table 1: K = 100, 481x321, best annotation of each image; GPU for ssn, rim and lnsnet.
LNSNET = {
    "snic": Complexity(85, 0.943),
    "lsc": Complexity(269, 0.953),
    "ers": Complexity(2540, 0.953),
    "ssn": Complexity(260, 0.970, 13.85, 214.5),
    "rim": Complexity(34842, 0.953, 64.15, 416.14),
    "lnsnet": Complexity(55, 0.962, 1.15, 11.22),
}
# Gaur and Manjunath, TIP 2020, Table I: K = 50; GPU (Quadro P5000) for sen.
SEN = {
    "sen": Efficiency(153, 0.559),
    "snic": Efficiency(64, 0.543),
    "slic": Efficiency(73, 0.526),
    "ers": Efficiency(504, 0.534),
    "lsc": Efficiency(237, 0.510),
    "reseeds": Efficiency(171, 0.532),
}
# Jampani et al., ECCV 2018, Table 1: milliseconds, K = 1000, 1024x512; GPU (V100) for ssn.
SSN = {"slic": 350.0, "snic": 810.0, "seeds": 160.0, "lsc": 1240.0, "ers": 4600.0, "ssn": 101.0}
SSN_OTHERS = {"SEAL-ERS": 4610.0, "gSLICr, GPU": 10.0}
# Yuan et al. 2021, Fig. 4, in words: how many times as long as SIN others take, over all counts.
SIN = {"sin": "1", "fcn": "1.5 to 2", "ssn": "12 to 33"}
# The strongest curve found, of SSMamba (72.8 million weights), from its own maps of all 200 images; protocol stutz.
SSMAMBA = [
    {"k": 101, "asa": 0.9419, "br": 0.654, "bp": 0.195, "co": 0.372, "ev": 0.708},
    {"k": 227, "asa": 0.9611, "br": 0.793, "bp": 0.168, "co": 0.363, "ev": 0.763},
    {"k": 308, "asa": 0.9657, "br": 0.830, "bp": 0.156, "co": 0.359, "ev": 0.782},
    {"k": 401, "asa": 0.9688, "br": 0.854, "bp": 0.145, "co": 0.358, "ev": 0.796},
    {"k": 627, "asa": 0.9737, "br": 0.891, "bp": 0.130, "co": 0.356, "ev": 0.821},
    {"k": 1089, "asa": 0.9770, "br": 0.925, "bp": 0.109, "co": 0.373, "ev": 0.842},
]
