"""Which changes the copies of a scan are made with, how often, and how large they are."""

from dataclasses import asdict, dataclass, fields

from ermoe_ba.config import from_plain


@dataclass(frozen=True, kw_only=True)
class Chance:
    """How often a change is made.

    Parameters
    ----------
    probability : float
        Share of the copies that bear the change, 0 to 1; 0 leaves it out. What else is drawn does
        not depend on it.
    """

    probability: float

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must lie between 0 and 1; found {self.probability}")
        for field in fields(self):
            if getattr(self, field.name) < 0:
                raise ValueError(
                    f"{field.name} must be 0 or more; found {getattr(self, field.name)}"
                )


@dataclass(frozen=True, kw_only=True)
class Mask(Chance):
    """The brain cut by another mask, as another brain extraction would.

    The mask alone was measured to move predictions by years in models that knew one kind only.
    """

    probability: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Flip(Chance):
    """Left and right exchanged: ageing is nearly symmetric, and halves of brains are few.

    Intensities alone are exchanged, places are not: the tokens of the left side see the tissue of
    the right, and the maps of scans as they are keep their sides. What a stage learns from the
    copies must be the same for both: ages, and volumes summed over the sides.
    """

    probability: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Affine(Chance):
    """What registration leaves: about 1 mm, 1 degree and 1.5 %.

    Parameters
    ----------
    rotation : float
        Largest turn about each axis, in radians.
    translation : float
        Largest way along each axis, in voxels of 2 mm.
    scaling : float
        Largest stretch or shrinkage along each axis, as a share.
    """

    probability: float = 0.8
    rotation: float = 0.02
    translation: float = 0.5
    scaling: float = 0.015


@dataclass(frozen=True, kw_only=True)
class Elastic(Chance):
    """Smooth warps, as gradients that are not linear bend a head, and as heads differ in shape.

    Off by default: shrinkage of single structures is what ageing looks like, and a warp is not to
    teach that it does not matter. Its size is chosen by that: at most half a voxel, over structures
    of a lobe's size.

    Parameters
    ----------
    displacement : float
        Standard deviation of the displacement along each axis, in voxels of 2 mm.
    smoothness : float
        Standard deviation of the Gaussian that random displacements are smoothed with, in voxels.
    """

    probability: float = 0.0
    displacement: float = 0.5
    smoothness: float = 8.0


@dataclass(frozen=True, kw_only=True)
class Gain(Chance):
    """All intensities multiplied: white matter is brought to 1, but not exactly.

    Off by default: the stem meets gains when it is trained on tissue (`TissueConfig.gain_sd`).

    Parameters
    ----------
    share : float
        Largest change, as a share of the intensity.
    """

    probability: float = 0.0
    share: float = 0.03


@dataclass(frozen=True, kw_only=True)
class Blur(Chance):
    """Thick slices or a patient who moved a little, along each axis on its own.

    Parameters
    ----------
    deviation : float
        Largest standard deviation of the Gaussian, in voxels of 2 mm: slices of 3 mm blur as 0.6
        voxels do, of 4 mm as 0.8.
    """

    probability: float = 0.5
    deviation: float = 0.8


@dataclass(frozen=True, kw_only=True)
class Bias(Chance):
    """A bias field of coils that the correction has left over.

    Parameters
    ----------
    coefficient : float
        Largest coefficient of the polynomial of third degree whose exponential is the field.
    """

    probability: float = 0.3
    coefficient: float = 0.03


@dataclass(frozen=True, kw_only=True)
class Contrast(Chance):
    """Another scanner's contrast between the tissues, as a power of the intensity.

    Parameters
    ----------
    exponent : float
        Largest distance of the power from 1.
    """

    probability: float = 0.3
    exponent: float = 0.1


@dataclass(frozen=True, kw_only=True)
class Noise(Chance):
    """White noise of a shorter or faster scan.

    Parameters
    ----------
    deviation : float
        Largest standard deviation, relative to white matter.
    """

    probability: float = 0.5
    deviation: float = 0.03


@dataclass(frozen=True, kw_only=True)
class ChangeConfig:
    """The changes of a scan's copies, by name; all that is not stated is as the defaults say.

    Parameters
    ----------
    mask : Mask
        The first that is made; each as its own class tells, in this order.
    gain : Gain
        Second.
    elastic : Elastic
        Third.
    flip : Flip
        Fourth.
    affine : Affine
        Fifth.
    blur : Blur
        Sixth.
    bias : Bias
        Seventh.
    contrast : Contrast
        Eighth.
    noise : Noise
        Last.
    """

    mask: Mask = Mask()
    gain: Gain = Gain()
    elastic: Elastic = Elastic()
    flip: Flip = Flip()
    affine: Affine = Affine()
    blur: Blur = Blur()
    bias: Bias = Bias()
    contrast: Contrast = Contrast()
    noise: Noise = Noise()

    def alone(self, name: str) -> "ChangeConfig":
        """Return settings that make one change in every copy, at its size, and no other.

        Parameters
        ----------
        name : str
            From `CHANGES`.

        Returns
        -------
        ChangeConfig
            Its probability 1, that of all others 0.
        """
        content = asdict(self)
        for change, settings in content.items():
            settings["probability"] = float(change == name)
        return from_plain(ChangeConfig, content)


CHANGES = tuple(field.name for field in fields(ChangeConfig))
# What copies are made with unless a recipe says otherwise: the shipped model's.
USUAL = ChangeConfig()
# Scans as they are.
UNCHANGED = ChangeConfig(
    mask=Mask(probability=0.0),
    gain=Gain(probability=0.0),
    elastic=Elastic(probability=0.0),
    flip=Flip(probability=0.0),
    affine=Affine(probability=0.0),
    blur=Blur(probability=0.0),
    bias=Bias(probability=0.0),
    contrast=Contrast(probability=0.0),
    noise=Noise(probability=0.0),
)
