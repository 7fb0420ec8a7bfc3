"""Atari scores as papers print them: what a median of 57 games hides, and what a mean shows.

Game by game, with up to 30 idle steps at the start: a random player and a human tester (the references of
wang2016dueling), deep Q-networks (DQN) as in the appendix of bellemare2017distributional, and the dueling
network of wang2016dueling. The transcription agrees with what the papers print of it: the medians of 79 % and
151 % of a human's score, and the numbers of games above the human's, 24 and 37. The means in print, 227.9 and
373.1 %, come out within 0.2 once the random player of Video Pinball is given 0; with its 16,256.9 of below,
so near to the human tester's, they are 433 and 465 %.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

SCORES = """
    game                  random     human       dqn   dueling
    alien                 227.8    7127.7    1620.0    4461.4
    amidar                  5.8    1719.5     978.0    2354.5
    assault               222.4     742.0    4280.4    4621.0
    asterix               210.0    8503.3    4359.0   28188.0
    asteroids             719.1   47388.7    1364.5    2837.7
    atlantis            12850.0   29028.1  279987.0  382572.0
    bank_heist             14.2     753.1     455.0    1611.9
    battle_zone          2360.0   37187.5   29900.0   37150.0
    beam_rider            363.9   16926.5    8627.5   12164.0
    berzerk               123.7    2630.4     585.6    1472.6
    bowling                23.1     160.7      50.4      65.5
    boxing                  0.1      12.1      88.0      99.4
    breakout                1.7      30.5     385.5     345.3
    centipede            2090.9   12017.0    4657.7    7561.4
    chopper_command       811.0    7387.8    6126.0   11215.0
    crazy_climber       10780.5   35829.4  110763.0  143570.0
    defender             2874.5   18688.9   23633.0   42214.0
    demon_attack          152.1    1971.0   12149.4   60813.3
    double_dunk           -18.6     -16.4      -6.6       0.1
    enduro                  0.0     860.5     729.0    2258.2
    fishing_derby         -91.7     -38.7      -4.9      46.4
    freeway                 0.0      29.6      30.8       0.0
    frostbite              65.2    4334.7     797.4    4672.8
    gopher                257.6    2412.5    8777.4   15718.4
    gravitar              173.0    3351.4     473.0     588.0
    hero                 1027.0   30826.4   20437.8   20818.2
    ice_hockey            -11.2       0.9      -1.9       0.5
    jamesbond              29.0     302.8     768.5    1312.5
    kangaroo               52.0    3035.0    7259.0   14854.0
    krull                1598.0    2665.5    8422.3   11451.9
    kung_fu_master        258.5   22736.3   26059.0   34294.0
    montezuma_revenge       0.0    4753.3       0.0       0.0
    ms_pacman             307.3    6951.6    3085.6    6283.5
    name_this_game       2292.3    8049.0    8207.8   11971.1
    phoenix               761.4    7242.6    8485.2   23092.2
    pitfall              -229.4    6463.7    -286.1       0.0
    pong                  -20.7      14.6      19.5      21.0
    private_eye            24.9   69571.3     146.7     103.0
    qbert                 163.9   13455.0   13117.3   19220.3
    riverraid            1338.5   17118.0    7377.6   21162.6
    road_runner            11.5    7845.0   39544.0   69524.0
    robotank                2.2      11.9      63.9      65.3
    seaquest               68.4   42054.7    5860.6   50254.2
    skiing             -17098.1   -4336.9  -13062.3   -8857.4
    solaris              1236.3   12326.7    3482.8    2250.8
    space_invaders        148.0    1668.7    1692.3    6427.3
    star_gunner           664.0   10250.0   54282.0   89238.0
    surround              -10.0       6.5      -5.6       4.4
    tennis                -23.8      -8.3      12.2       5.1
    time_pilot           3568.0    5229.2    4870.0   11666.0
    tutankham              11.4     167.6      68.1     211.4
    up_n_down             533.4   11693.2    9989.9   44939.6
    venture                 0.0    1187.5     163.0     497.0
    video_pinball       16256.9   17667.9  196760.4   98209.5
    wizard_of_wor         563.5    4756.5    2704.0    7855.0
    yars_revenge         3092.9   54576.9   18098.9   49622.1
    zaxxon                 32.5    9173.3    5363.0   12944.0
"""
PRINTED = {
    "DQN": (79.1, 227.9),
    "Double DQN": (117.8, 307.3),
    "dueling": (151.5, 373.1),
    "Rainbow": (223.0, None),
}
"""(median, mean) over 57 games in % of a human's score: wang2016dueling, table 1; hessel2018rainbow, table 2,
which has medians alone. In the former, double DQN goes by the name of "Single"."""


def games() -> list[str]:
    """The 57 games, in the order of the alphabet."""
    return [line.split()[0] for line in SCORES.strip().splitlines()[1:]]


def column(name: str) -> Float[np.ndarray, " M"]:
    """The raw scores of `random`, `human`, `dqn` or `dueling`, a game each."""
    head, *lines = (line.split() for line in SCORES.strip().splitlines())
    return np.array([float(line[head.index(name)]) for line in lines])


def human_normalised(name: str) -> Float[np.ndarray, " M"]:
    """Scores on a scale where a random player has 0 and the human tester 1."""
    random, human = column("random"), column("human")
    return (column(name) - random) / (human - random)
