"""Livepeer's contracts on the local chain: the real TicketBroker, and what it needs around it.

The BondingManager is Livepeer's mock, made to know one active orchestrator; LPT is left out.
"""

from dataclasses import dataclass, field
from pathlib import Path

from eth_account import Account
from eth_typing import ChecksumAddress
from web3 import HTTPProvider, Web3
from web3.contract import Contract
from web3.contract.contract import ContractFunction

from tilt.chain import artifacts
from tilt.chain import world as worlds
from tilt.chain.accounts import send_as_owner, set_balance
from tilt.chain.install import install
from tilt.chain.local_chain import LocalChain
from tilt.chain.node import keep_state
from tilt.chain.world import World

ROUND_LENGTH_BLOCKS = 1000  # anvil makes a block per transaction; no test outruns this
TICKET_VALIDITY_PERIOD_ROUNDS = 2
UNLOCK_PERIOD_ROUNDS = 2
BLOCKS_TO_FINALITY = 64  # anvil's `finalized` is this far behind; watchers credit deposits there
GAS_MONEY_WEI = 1000 * 10**18


@dataclass(frozen=True)
class Plan:
    """What the world is to be: whose keys, and what each payer starts with in the TicketBroker."""

    payer_key: str = field(repr=False)
    orchestrator_key: str = field(repr=False)
    deposit_wei: int
    reserve_wei: int
    pool_size: int = 100
    other_payer_keys: tuple[str, ...] = field(default=(), repr=False)

    @property
    def payer(self) -> ChecksumAddress:
        return _address(self.payer_key)

    @property
    def orchestrator(self) -> ChecksumAddress:
        return _address(self.orchestrator_key)


def deploy(rpc_url: str, directory: Path, plan: Plan) -> World:
    """Make the world of this directory stand on the chain; what is there already is left alone.

    Empty payers are funded, and a round is initialized if the chain has run past the last one.
    """
    web3 = Web3(HTTPProvider(rpc_url))
    known = worlds.load(directory)
    world = known if known and _stands(web3, known, plan) else _build(web3, plan)
    chain = LocalChain(rpc_url, world)
    chain.ensure_round_initialized()
    for key in (plan.payer_key, *plan.other_payer_keys):
        _fund_if_empty(chain, key, plan)
    if world is not known:
        keep_state(rpc_url, directory)
        worlds.save(world, directory)
    return world


def _stands(web3: Web3, world: World, plan: Plan) -> bool:
    expected = (web3.eth.chain_id, plan.payer, plan.orchestrator)
    if (world.chain_id, world.payer, world.orchestrator) != expected:
        return False
    addresses = (
        world.controller,
        world.ticket_broker,
        world.rounds_manager,
        world.bonding_manager,
        world.minter,
    )
    return all(web3.eth.get_code(Web3.to_checksum_address(address)) for address in addresses)


def _build(web3: Web3, plan: Plan) -> World:
    first_block = web3.eth.block_number
    livepeer = _Livepeer(web3)
    bonding_manager = livepeer.add("BondingManager", "BondingManagerMock")
    minter = _add_minter(livepeer)
    broker = livepeer.add_behind_proxy("TicketBroker")
    rounds = livepeer.add_behind_proxy("RoundsManager")
    livepeer.register("JobsManager", broker.address)  # the Minter takes ETH under this older name only

    livepeer.call(livepeer.controller.functions.unpause())
    livepeer.call(broker.functions.setTicketValidityPeriod(TICKET_VALIDITY_PERIOD_ROUNDS))
    livepeer.call(broker.functions.setUnlockPeriod(UNLOCK_PERIOD_ROUNDS))
    livepeer.call(rounds.functions.setRoundLength(ROUND_LENGTH_BLOCKS))
    _register_orchestrator(livepeer, bonding_manager, plan)
    return World(
        chain_id=web3.eth.chain_id,
        first_block=first_block,
        controller=livepeer.controller.address,
        ticket_broker=broker.address,
        rounds_manager=rounds.address,
        bonding_manager=bonding_manager.address,
        minter=minter.address,
        payer=plan.payer,
        orchestrator=plan.orchestrator,
    )


def _add_minter(livepeer: "_Livepeer") -> Contract:
    """Add the Minter, and the two it asks for LPT's supply when a round begins; mocks answer 0."""
    livepeer.add("LivepeerToken", "GenericMock")
    livepeer.add("L2LPTDataCache", "GenericMock")
    inflation = inflation_change = target_bonding_rate = 0
    return livepeer.add(
        "Minter", "Minter", livepeer.controller.address, inflation, inflation_change, target_bonding_rate
    )


def _register_orchestrator(livepeer: "_Livepeer", bonding: Contract, plan: Plan) -> None:
    for name in ("getTranscoderPoolSize", "getTranscoderPoolMaxSize"):
        livepeer.call(bonding.functions.setMockUint256(_selector(f"{name}()"), plan.pool_size))
    for name in ("isActiveTranscoder", "isRegisteredTranscoder"):
        selector = _selector(f"{name}(address)")
        question = selector + bytes.fromhex(plan.orchestrator[2:]).rjust(32, b"\0")
        livepeer.call(bonding.functions.setMockUint256WithParam(selector, Web3.keccak(question), 1))
    set_balance(livepeer.web3, plan.orchestrator, GAS_MONEY_WEI)


def _fund_if_empty(chain: LocalChain, payer_key: str, plan: Plan) -> None:
    payer = _address(payer_key)
    info = chain.sender_info(payer)
    if info.deposit or info.reserve:
        return
    set_balance(chain.web3, payer, plan.deposit_wei + plan.reserve_wei + GAS_MONEY_WEI)
    chain.fund(payer_key, deposit_wei=plan.deposit_wei, reserve_wei=plan.reserve_wei)
    chain.mine(BLOCKS_TO_FINALITY)


def _address(key: str) -> ChecksumAddress:
    return ChecksumAddress(Account.from_key(key).address)


def _selector(signature: str) -> bytes:
    return bytes(Web3.keccak(text=signature)[:4])


class _Livepeer:
    """A Controller and the contracts registered with it."""

    def __init__(self, web3: Web3) -> None:
        self.web3 = web3
        self._contracts = install().contracts
        self.controller = self._create("Controller")

    def add(self, name: str, artifact: str, *arguments: object) -> Contract:
        contract = self._create(artifact, *arguments)
        self.register(name, contract.address)
        return contract

    def add_behind_proxy(self, name: str) -> Contract:
        """Put the contract behind a ManagerProxy, which asks the Controller for its target at each call."""
        target = self.add(f"{name}Target", name, self.controller.address)
        proxy = self.add(name, "ManagerProxy", self.controller.address, Web3.keccak(text=f"{name}Target"))
        return self.web3.eth.contract(proxy.address, abi=target.abi)

    def register(self, name: str, address: ChecksumAddress) -> None:
        no_commit = bytes(20)
        self.call(self.controller.functions.setContractInfo(Web3.keccak(text=name), address, no_commit))

    def call(self, function: ContractFunction) -> None:
        send_as_owner(self.web3, function)

    def _create(self, name: str, *arguments: object) -> Contract:
        artifact = artifacts.load(self._contracts, name)
        factory = self.web3.eth.contract(abi=artifact.abi, bytecode=artifact.bytecode)
        receipt = send_as_owner(self.web3, factory.constructor(*arguments))
        assert receipt["contractAddress"], "a constructor's receipt names the contract"
        return factory(receipt["contractAddress"])
